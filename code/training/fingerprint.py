"""The fingerprint of a run: what its result depends on, and how it differs from that of a checkpoint.

It holds the options (config.py), the sha256 of the initial weights (initial.py), and of the data (inputs.py) the names
of the classes, a digest of path, label and size of every image, the images that cannot be used, and which of them cost
too much to decode. The contents of the images are compared later, as they are decoded.
"""

from collections.abc import Mapping
from typing import Any

from config import MAY_DIFFER, TrainConfig
from runtime.arguments import upgrade

_NEW_VERSIONS = ("SMs", "driver")  # entries of runtime_versions that 0.1.0 did not write
FORMAT_OF_SUMS = "sum format"  # the entry of runtime_versions that changes when sums over parts get other bits
INITIAL_WEIGHTS = "initial weights"  # the entry with the sha256 of the weights that the run started from, or None
STATISTICS = "mean and std"  # the entry with those of the initial weights, if `--statistics` has no name for them
TOO_EXPENSIVE = "too expensive images"  # the entry with the paths of images that exceeded the limits of decoding
# What 0.1.0 called the entries of a manifest, of its fingerprint and of a state.
_OLD_NAMES = {
    **{"surroundings": "runtime_versions", "unusable pictures": "unusable images"},
    **{"position": "state", "learner": "trainer"},
}


def upgrade_checkpoint(
    manifest: Mapping[str, Any], state: Mapping[str, Any], fingerprint: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest and the state of a checkpoint of any version under the current names.

    An option of `fingerprint`, that of this run, which is missing in the manifest is added with its default. 0.1.0
    wrote the name of the initial weights and not their sha256, so they count as those of this run. Raises KeyError for
    a manifest that lacks an entry.
    """
    manifest, state, theirs = (
        {_OLD_NAMES.get(name, name): value for name, value in part.items()}
        for part in (manifest, state, manifest["fingerprint"])
    )
    options = upgrade(theirs, TrainConfig)
    known = {name: value for name, value in options.items() if name in theirs or name in fingerprint}
    known = {name: value for name, value in known.items() if name not in MAY_DIFFER}
    if INITIAL_WEIGHTS in fingerprint:
        known.setdefault(INITIAL_WEIGHTS, fingerprint[INITIAL_WEIGHTS])
    if "classes" not in known and _have_same_classes(known, fingerprint):
        known["classes"] = fingerprint["classes"]
    needed = {name: manifest[name] for name in ("step", "runtime_versions")}
    return manifest | needed | {"fingerprint": known}, state


def _have_same_classes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return True if a fingerprint of 0.1.0, which does not name the classes, is certainly of those of `ours`.

    Their names are a part of what `data` is a digest of, and both data sets of masked faces have the same ones.
    """
    are_faces = {theirs.get("dataset"), ours.get("dataset")} <= {"MaskSplitByProfileDataset", "MaskBaseDataset"}
    return "classes" in ours and (are_faces or theirs.get("data") == ours.get("data"))


def explain_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, is_forced: bool) -> str | None:
    """Return why a run may not resume from a checkpoint with the fingerprint `theirs`, or None if it may.

    `--resume force` (`is_forced`) accepts any difference except other classes.
    """
    if theirs.get("classes") != ours.get("classes"):
        return (
            f"the checkpoint was made with other classes ({_class_differences(theirs, ours)}), and --resume force does "
            "not change what its weights mean; restore the classes, pass --resume never to start from scratch"
        )
    if theirs == ours or is_forced:
        return None
    return (
        f"the checkpoint was made with different data or settings ({list_differences(theirs, ours)}); pass --resume "
        "never to start from scratch, --resume force to resume anyway"
    )


def list_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], most: int = 5) -> str:
    """Return up to `most` entries that differ, as a part of a message; empty if none does."""
    different = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    return ", ".join(f"{key} was {theirs.get(key)!r}, is {ours.get(key)!r}" for key in different[:most])


def adds_up_parts(manifest: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Return True if the run of a checkpoint cuts its batches: --parts says so, or a whole batch did not fit."""
    chosen, grown = manifest["fingerprint"].get("parts", 1), (state.get("trainer") or {}).get("parts", {})
    return bool(chosen > 1 or grown.get("training", 1) > 1)


def version_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, adds_up_parts: bool = True) -> str:
    """Return the runtime versions that differ, as a part of a message; one that 0.1.0 did not write may be missing.

    The format of sums matters only to a run that adds up parts.
    """
    ignored = () if adds_up_parts else (FORMAT_OF_SUMS,)
    theirs = {name: value for name, value in theirs.items() if name not in ignored}
    new = {*_NEW_VERSIONS, *ignored} - theirs.keys()
    return list_differences(theirs, {name: value for name, value in ours.items() if name not in new})


def _class_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], most: int = 5) -> str:
    """Return the classes that are missing and those that are new, up to `most` each, as a part of a message."""
    if "classes" not in theirs:
        return "version 0.1.0 did not write their names, and the data is different"
    before, now = theirs["classes"], ours.get("classes", [])
    parts = []
    for kind, names, others in (("missing", before, now), ("new", now, before)):
        if found := [repr(name) for name in names if name not in others]:
            more = f" and {len(found) - most} more" if len(found) > most else ""
            parts.append(f"{kind}: {', '.join(found[:most])}{more}")
    return "; ".join(parts) or "the same in another order"
