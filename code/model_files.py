"""The published model: `model.safetensors` and `model.json`, complete and self-describing, without pickle.

`model.json` has everything a command needs: architecture, classes, preparation, metrics, options, versions and the
sha256 of the weights. The weights are written first, the description last, each completely or not at all; a folder
whose two files do not belong together is rejected. `best.pth` state dicts of the original load, too, as tensors only.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from data.images import Preparation
from description import DESCRIPTION, FORMAT, Description, build_described, describe_ensemble
from labels import MASKED_FACES
from model import load_state
from runtime.archives import ArchiveError, members, open_archive, read_member
from runtime.errors import JobError, ModelError
from runtime.files import UnusableFile, open_regular, read_regular, replacing
from runtime.json_files import parse_json
from runtime.process import free_memory_bytes
from runtime.version import version

WEIGHTS, LEGACY, ARCHIVE = "model.safetensors", "best.pth", "model.tar.gz"
MAX_BYTES = 4 << 30  # of the weights, in a file or in an archive; anything larger is no model of this job
MAX_DESCRIPTION_BYTES = 10 << 20

StateDict = dict[str, Tensor]


def publish(folder: Path, state: StateDict, description: Description) -> None:
    """Write the two files of a model and read them back; raises ModelError for a weight that is not finite.

    After a failure the folder holds the model from before, or one that `load` rejects.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f"the weight {name!r} is not finite, so the model was not published: {folder}")
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    record = {
        "format": FORMAT,
        "version": version(),
        **description.to_dict(),
        "versions": {"torch": torch.__version__},
        "sha256": _sha256(weights),
    }
    with replacing(folder / WEIGHTS, "wb") as file:
        file.write(weights)
    with replacing(folder / DESCRIPTION) as file:
        file.write(json.dumps(record, indent=2) + "\n")
    _check(*_read_folder(folder), where=str(folder))


def publish_ensemble(folder: Path, members: Sequence[Path], metrics: Mapping[str, float] | None = None) -> Description:
    """Write the model whose probabilities are the mean of those of other models, which lie in the folders `members`.

    Each member has its own mean and std. `metrics` are those of model.json, by default the means of the members. Raises
    ModelError as `load` and `describe_ensemble` do.
    """
    loaded = [load(member) for member in members]
    descriptions = {str(member): description for member, (_, description) in zip(members, loaded, strict=True)}
    description = describe_ensemble(descriptions, metrics)
    state = {
        f"networks.{number}.{name}": tensor
        for number, (model, _) in enumerate(loaded)
        for name, tensor in model.state_dict().items()
    }
    publish(folder, state, description)
    return description


def load(location: Path, legacy: Description | None = None) -> tuple[nn.Module, Description]:
    """Load the model in a folder, its parent, or a model.tar.gz, on the CPU and in evaluation mode.

    `legacy` describes an old best.pth, which has no description. Raises ModelError for anything else.
    """
    source = find(location)
    if source.name == LEGACY:
        description = legacy or Description("BaseModel", "joint", MASKED_FACES, Preparation())
        state = _read_legacy(source)
    else:
        description, state, _ = read(source)
    model = build_described(description, source)
    load_state(model, state)
    return model.eval(), description


def read(source: Path) -> tuple[Description, StateDict, str]:
    """Return the description, the weights and their sha256 in a model folder or a model.tar.gz.

    Raises ModelError if it is no complete model.
    """
    description, weights = _read_folder(source) if source.is_dir() else _read_archive(source)
    return *_check(description, weights, where=str(source)), _sha256(weights)


def find(location: Path) -> Path:
    """Return the model folder, archive or best.pth at a location: itself, in it, or in its only run folder.

    Raises ModelError if there is none, or more than one.
    """
    if location.is_file():
        return location
    if not location.is_dir():
        raise ModelError(f"no model, expected a folder with {WEIGHTS} and {DESCRIPTION}, or a {ARCHIVE}: {location}")
    if (found := _model_in(location)) is not None:
        return found
    runs = [(run, found) for run in sorted(location.iterdir()) if run.is_dir() and (found := _model_in(run))]
    if len(runs) > 1:
        names = ", ".join(run.name for run, _ in runs)
        raise ModelError(f"several models ({names}), expected one; give the folder of one of them: {location}")
    if not runs:
        raise ModelError(f"no model, expected {WEIGHTS} and {DESCRIPTION}, {ARCHIVE} or {LEGACY}: {location}")
    return runs[0][1]


def _model_in(folder: Path) -> Path | None:
    """Return the folder if it holds a model, the archive or best.pth in it, or None."""
    if (folder / DESCRIPTION).is_file() or (folder / WEIGHTS).is_file():
        return folder
    return next((folder / name for name in (ARCHIVE, LEGACY) if (folder / name).is_file()), None)


def _read_folder(folder: Path) -> tuple[bytes, bytes]:
    """Return the description and the weights in a folder."""
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{name} is missing, the model is incomplete; train again or give another: {folder}")
    try:
        return read_regular(folder / DESCRIPTION, MAX_DESCRIPTION_BYTES), read_regular(folder / WEIGHTS, _most_bytes())
    except UnusableFile as error:
        raise ModelError(f"{error.strerror}: {error.filename}") from None


def _most_bytes() -> int:
    """Return how many bytes of weights are read: those that fit into memory twice, as bytes and as a network."""
    return min(MAX_BYTES, free_memory_bytes() // 2)


def _read_archive(path: Path) -> tuple[bytes, bytes]:
    """Return the description and the weights in a model.tar.gz; nothing is unpacked onto the disk."""
    found: dict[str, bytes] = {}
    limits = {DESCRIPTION: MAX_DESCRIPTION_BYTES, WEIGHTS: _most_bytes()}
    try:
        with open_archive(path) as archive:
            for member in members(archive, MAX_BYTES):
                name = member.name.removeprefix("./")
                if name not in limits or not member.isreg():
                    continue
                if name in found:
                    raise ModelError(f"{name} is in the archive twice: {path}")
                found[name] = read_member(archive, member, limits[name])
    except ArchiveError as error:
        raise ModelError(f"cannot be read as an archive ({error.reason}), expected a {ARCHIVE}: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot be read as an archive ({error.strerror}), expected a {ARCHIVE}: {path}") from None
    if len(found) < 2:
        raise ModelError(f"the archive lacks {DESCRIPTION} or {WEIGHTS} at its top level: {path}")
    return found[DESCRIPTION], found[WEIGHTS]


def _check(description: bytes, weights: bytes, *, where: str) -> tuple[Description, StateDict]:
    """Parse both files; their checksum proves that they belong together and that no bit has changed."""
    try:
        record = parse_json(description)
    except ValueError as error:
        raise ModelError(f"{DESCRIPTION} is not JSON ({error}); train again or give another: {where}") from None
    if not isinstance(record, dict) or record.get("sha256") != _sha256(weights):
        raise ModelError(f"{WEIGHTS} is damaged or belongs to another {DESCRIPTION} (sha256 differs): {where}")
    try:
        state = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ModelError(f"{WEIGHTS} cannot be read ({error}): {where}") from None
    if any(not tensor.isfinite().all() for tensor in state.values()):
        raise ModelError(f"{WEIGHTS} holds weights that are not finite: {where}")
    return Description.from_dict(record, where), state


def _read_legacy(path: Path) -> StateDict:
    """Read a state dict as the original saved it; only tensors are unpickled."""
    try:
        with open_regular(path, MAX_BYTES) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except JobError:
        raise
    except Exception as error:  # torch.load raises errors of many types
        reason = str(error).splitlines()[0][:100]
        raise ModelError(f"not a plain state dict of tensors ({reason}): {path}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"not a plain state dict of tensors, expected what BaseModel.state_dict() gives: {path}")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
