"""The reader of manifests of SageMaker Ground Truth: one *.manifest, a JSON object in each line.

    {"source-ref": "s3://bucket/photos/1.jpg", "animal": 0, "animal-metadata": {"class-name": "cat", "type": ...}}
    {"source-ref": "s3://bucket/photos/1.jpg", "seen": [0, 3], "seen-metadata": {"class-map": {"0": "cat", ...}, ...}}

The manifest is beside the images or in a folder of its own. An image is the file with the longest suffix of its key:
photos/1.jpg, else 1.jpg. No torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.label_cells import Cells, read_objects
from data.label_rows import samples_of_rows
from data.layout import check_image_names
from data.listing import Listing, is_given, list_folder
from data.names import canonical_name, first_names
from data.samples import Samples
from data.several_labels import with_several_labels
from labels import SEPARATOR, join_labels
from runtime.errors import DataError
from runtime.files import existing_folder, visible

_METADATA = "-metadata"
_SINGLE, _MULTI = "groundtruth/image-classification", "groundtruth/image-classification-multilabel"


@dataclass(frozen=True)
class ManifestObjects:
    """The labelled objects of a manifest whose images are still in S3: all are in one bucket."""

    bucket: str
    keys: list[str]  # each once, sorted
    samples: Samples  # as a job reads it that has every object below a folder under its key


@dataclass(frozen=True)
class _Labelled:
    """The labelled lines of a manifest: the sources and keys of their images, their cells, and notes on the others."""

    sources: list[str]
    keys: list[str]
    cells: Cells
    notes: list[str]
    has_several: bool  # labels for each image


def fits_manifest(channel: Path) -> bool:
    """Return True if the channel contains a manifest."""
    return bool(_manifests(channel))


def read_manifest(channel: Path, variable: str = "SM_CHANNEL_TRAIN", labels_dir: Path | None = None) -> Samples:
    """Read the images that the only *.manifest of a channel lists; `variable` names the channel in messages.

    With `labels_dir`, the manifest is there (SM_CHANNEL_LABELS), and the channel has the images.

    Images that do not exist stay in the table: they cannot be used, and `--on-bad-image` decides. Images that nobody
    labelled are left out. Raises DataError for lines that are not of an image classification, for several label
    attributes, and as `samples_of_rows` does.
    """
    if labels_dir is None:
        existing_folder(channel, variable, "a *.manifest and the images that it lists")
        path = _only_manifest(channel, variable)
    else:
        existing_folder(channel, variable, "the images that a manifest lists")
        existing_folder(labels_dir, "SM_CHANNEL_LABELS", "a *.manifest")
        path = _only_manifest(labels_dir, "SM_CHANNEL_LABELS")
    labelled = _read_labelled(path)
    listing = list_folder(channel)
    check_image_names(listing)
    return _samples(labelled, listing, path)


def read_manifest_objects(path: Path) -> ManifestObjects:
    """Read a manifest whose images are in S3.

    Raises DataError for images that are not in S3 or in several buckets, and as `read_manifest` does for such images
    below one folder.
    """
    labelled = _read_labelled(path)
    buckets: dict[str, None] = {}
    for number, source in zip(labelled.cells.numbers, labelled.sources, strict=True):
        bucket = source.removeprefix("s3://").partition("/")[0]
        if not source.startswith("s3://") or not bucket:
            raise DataError(
                f"line {number} of {path.name} has the source-ref {source!r}, expected s3://bucket/key: {path}"
            )
        buckets[bucket] = None
    if len(buckets) > 1:
        raise DataError(
            f"the images of {path.name} are in {len(buckets)} buckets ({first_names(list(buckets))}), expected one; "
            f"copy them into one: {path}"
        )
    keys = sorted(set(labelled.keys))
    listing = Listing(path.parent, keys, [], {})
    check_image_names(listing)
    return ManifestObjects(next(iter(buckets)), keys, _samples(labelled, listing, path))


def _samples(labelled: _Labelled, listing: Listing, path: Path) -> Samples:
    """Return the data set of a manifest whose images are those of a listing."""
    files = _find_files(labelled.keys, listing, path)
    samples = samples_of_rows(listing, path, labelled.cells, files, labelled.notes)
    return with_several_labels(samples) if labelled.has_several else samples


def _read_labelled(path: Path) -> _Labelled:
    """Return the labelled lines of a manifest; raise DataError as `read_manifest` does."""
    rows = list(read_objects(path))
    attribute, has_several = _find_attribute((row for _, row in rows), path)
    read_label = _class_names if has_several else _class_name
    labelled = [(number, row) for number, row in rows if f"{attribute}{_METADATA}" in row and attribute in row]
    keys = [_key(row, number, path) for number, row in labelled]
    sources = [str(row["source-ref"]) for _, row in labelled]
    labels = [read_label(row, attribute, number, path) for number, row in labelled]
    cells = Cells({"path": keys, "label": labels}, [number for number, _ in labelled])
    left_out = len(rows) - len(labelled)
    notes = [f"{left_out} lines of {path.name} have no label and are left out: {path}"] if left_out else []
    return _Labelled(sources, keys, cells, notes, has_several)


def _only_manifest(folder: Path, variable: str) -> Path:
    """Return the only manifest in a folder; raise DataError if there is none, or several."""
    found = _manifests(folder)
    if len(found) != 1:
        names = first_names(found) or "no *.manifest"
        raise DataError(f"{variable} contains {names}, expected one manifest: {folder}")
    return folder / found[0]


def _manifests(channel: Path) -> list[str]:
    return [path.name for path in visible(channel, "*.manifest") if is_given(path) and path.is_file()]


def _find_attribute(rows: Iterator[Mapping[str, Any]], path: Path) -> tuple[str, bool]:
    """Return the label attribute, whose metadata is of an image classification, and if that is a multi-label one.

    Raises DataError unless there is one attribute.
    """
    kinds: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if name.endswith(_METADATA) and isinstance(value, dict) and value.get("type") in (_SINGLE, _MULTI):
                kinds[name.removesuffix(_METADATA)] = value["type"]
    if len(kinds) != 1:
        names = first_names(sorted(kinds), 8)
        what = f"the label attributes {names}" if kinds else "no label of an image classification"
        raise DataError(f"{path.name} has {what}, expected one, with metadata of type {_SINGLE}: {path}")
    ((attribute, kind),) = kinds.items()
    return attribute, kind == _MULTI


def _key(row: Mapping[str, Any], number: int, path: Path) -> str:
    """Return the key of the object that a line names, without its bucket."""
    source = row.get("source-ref")
    if not isinstance(source, str) or not source.rpartition("/")[2]:
        raise DataError(f"line {number} of {path.name} has the source-ref {source!r}, expected s3://bucket/key: {path}")
    key = source.removeprefix("s3://").partition("/")[2] if source.startswith("s3://") else source.lstrip("/")
    if "\0" in key or ".." in key.split("/"):
        raise DataError(f"line {number} of {path.name} has the source-ref {source!r}, which leaves its folder: {path}")
    return key


def _class_name(row: Mapping[str, Any], attribute: str, number: int, path: Path) -> str:
    metadata = row[f"{attribute}{_METADATA}"]
    name = metadata.get("class-name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        raise DataError(f"line {number} of {path.name} has no class-name in {attribute}{_METADATA}: {path}")
    return name


def _class_names(row: Mapping[str, Any], attribute: str, number: int, path: Path) -> str:
    """Return the names of all classes of an image as one text; the label is a list of keys of the class-map."""
    keys, metadata = row[attribute], row[f"{attribute}{_METADATA}"]
    names = metadata.get("class-map") if isinstance(metadata, dict) else None
    if not isinstance(keys, list) or not isinstance(names, dict):
        raise DataError(f"line {number} of {path.name} has no list {attribute} with a class-map: {path}")
    found = [names.get(str(key)) for key in keys]
    for key, name in zip(keys, found, strict=True):
        if not isinstance(name, str) or not name.strip() or SEPARATOR in name:
            raise DataError(
                f"line {number} of {path.name} has the label {key} and {name!r} for it in the class-map, expected the "
                f"name of a class without {SEPARATOR!r}: {path}"
            )
    return join_labels(sorted(map(str, found)))


def _find_files(keys: list[str], listing: Listing, path: Path) -> tuple[list[str], list[str]]:
    """Return the file of every key, and the keys without one; raise DataError if two keys have the same file."""
    on_disk = {canonical_name(name): name for name in listing.files}
    files: dict[str, str] = {}
    owners: dict[str, str] = {}
    for key in dict.fromkeys(keys):
        steps = canonical_name(key).split("/")
        suffixes = ("/".join(steps[first:]) for first in range(len(steps)))
        file = next((on_disk[suffix] for suffix in suffixes if suffix in on_disk), None)
        if file is not None and owners.setdefault(file, key) != key:
            raise DataError(
                f"the keys {owners[file]} and {key} of {path.name} would both be the image {file}; keep the folders of "
                f"the keys: {path}"
            )
        files[key] = file or key
    missing = [key for key in keys if files[key] not in owners]
    if len(missing) == len(keys):
        raise DataError(
            f"none of the {len(keys)} images of {path.name} exists ({first_names(missing)}), expected them under "
            f"their keys in {listing.root}: {path}"
        )
    return [files[key] for key in keys], missing
