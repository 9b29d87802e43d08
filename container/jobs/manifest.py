"""A manifest of Ground Truth as the data of a training job: its objects are the channel `train`, itself is `labels`.

SageMaker copies the objects that a file of type ManifestFile lists, under their keys. Of a manifest with labels it
understands nothing, so the job reads that one itself.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from data.label_cells import MAX_TABLE_BYTES
from data.manifest import ManifestObjects, read_manifest_objects
from jobs.aws import Aws
from jobs.common import JobLocation
from jobs.s3 import Upload, fetch, upload_of_contents
from runtime.errors import ConfigError, DataError
from runtime.files import read_regular

_ENDING = ".manifest"
_OBJECTS = "objects.json"


@dataclass(frozen=True)
class LabelManifest:
    """A manifest: its name, its bytes, and what it says."""

    name: str
    content: bytes
    objects: ManifestObjects


def is_manifest(data: str) -> bool:
    """Return whether --data names a manifest, not a folder."""
    return data.endswith(_ENDING) and not Path(data).is_dir()


def manifest_problems(data: str, input_mode: str) -> list[str]:
    """Return a sentence for an input mode that cannot read the objects of a manifest."""
    if not is_manifest(data) or input_mode == "File":
        return []
    return [f"--input-mode: {input_mode} cannot read the objects of a manifest, expected File: {data}"]


def read_label_manifest(data: str, aws: Aws | None) -> LabelManifest:
    """Read the manifest that --data names, a file here or in S3.

    Raises ConfigError for one in S3 if there is no `aws`, as in a dry run, and DataError as `read_manifest_objects`.
    """
    if not data.startswith("s3://"):
        return _read(Path(data))
    if aws is None:
        raise ConfigError(f"--dry-run sends nothing, so it cannot read a manifest in S3; download it first: {data}")
    with TemporaryDirectory() as folder:
        path = Path(folder, data.rpartition("/")[2])
        fetch(aws, data, path)
        try:
            manifest = _read(path)
        except DataError as error:
            raise DataError(str(error).replace(str(path), data)) from None
    samples = manifest.objects.samples
    samples = replace(samples, notes=[note.replace(str(path), data) for note in samples.notes])
    return replace(manifest, objects=replace(manifest.objects, samples=samples))


def manifest_channels(location: JobLocation, manifest: LabelManifest) -> tuple[dict[str, str], tuple[Upload, ...]]:
    """Return the channels `train`, the URI of a ManifestFile, and `labels`, a folder, with the uploads of both."""
    objects, stem = manifest.objects, manifest.name.removesuffix(_ENDING)
    listed = json.dumps([{"prefix": f"s3://{objects.bucket}/"}, *objects.keys]).encode()
    train = upload_of_contents(f"{stem}-objects", {_OBJECTS: listed}, location.uri("data"))
    labels = upload_of_contents(stem, {manifest.name: manifest.content}, location.uri("data"))
    return {"train": train.uri + _OBJECTS, "labels": labels.uri}, (train, labels)


def _read(path: Path) -> LabelManifest:
    if not path.is_file():
        raise DataError(f"--data does not exist, expected a folder or a *{_ENDING}: {path}")
    return LabelManifest(path.name, read_regular(path, MAX_TABLE_BYTES), read_manifest_objects(path))
