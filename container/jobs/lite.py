"""`--lite` of deploy and transform: a model is exported to ONNX here, and packed for the lite image.

The archive holds model.json, model.safetensors and model.onnx, and is uploaded under the digest of its content, so the
same model is uploaded once.
"""

import contextlib
import gzip
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.aws import Aws, AwsError
from jobs.common import JobLocation
from jobs.instances import has_gpu, has_other_chip
from jobs.s3 import MISSING_FILE, Upload, extract, fetch, upload_of
from runtime.errors import JobError

_EXPORT = Path(__file__).parents[2] / "code" / "export.py"
ARCHIVE, MODEL_ONNX = "model.tar.gz", "model.onnx"
FILES = ("model.json", "model.safetensors", MODEL_ONNX)  # not by their names in code/, whose modules need torch
_PACKAGES = ("onnx", "onnxscript")  # of requirements-export.lock


@dataclass(frozen=True)
class ServedArchive:
    """The model.tar.gz that a container serves: its URI, and its upload or the object that must exist."""

    uri: str
    uploads: tuple[Upload, ...] = ()
    needed_uris: tuple[str, ...] = ()


def lite_problems(instance_type: str) -> list[str]:
    """Return a sentence if the lite image cannot compute on the instance as it is paid for."""
    if has_gpu(instance_type) or has_other_chip(instance_type):
        return [
            f"--instance-type: {instance_type} has an accelerator, and the lite image computes on CPUs; choose a type "
            "such as ml.c5.xlarge, or leave out --lite"
        ]
    return []


@contextlib.contextmanager
def lite_archive(aws: Aws, location: JobLocation, model: str, *, tta: str, dry_run: bool) -> Iterator[ServedArchive]:
    """Fetch a model, export it and yield its archive, which exists within the `with` block.

    `model` is a training job or the URI of a model.tar.gz, `tta` the test-time augmentation inside of model.onnx.
    Raises JobError if the model does not exist or cannot be exported. A dry run does neither, and gets a placeholder.
    """
    source = location.model(model)
    name = "model" if model.startswith("s3://") else model
    if dry_run:
        uri = location.uri("lite", f"{name}-digest", ARCHIVE)
        print(f"dry run: the model is not exported, so its place in S3 is a placeholder: {uri}", file=sys.stderr)
        yield ServedArchive(uri)
        return
    _check_packages()
    with tempfile.TemporaryDirectory(prefix="lite-") as temporary:
        folder = Path(temporary)
        _fetch(aws, source, folder / ARCHIVE)
        extract(folder / ARCHIVE, folder / "fetched")
        (folder / ARCHIVE).unlink()
        for earlier in (folder / "fetched").rglob(MODEL_ONNX):
            earlier.unlink()
        _export(folder / "fetched", folder / "golden", tta, source)
        (folder / name).mkdir()
        (exported,) = (folder / "fetched").rglob(MODEL_ONNX)
        pack(exported.parent, folder / name / ARCHIVE)
        upload = upload_of(folder / name, [ARCHIVE], location.uri("lite"))
        yield ServedArchive(f"{upload.uri}{ARCHIVE}", (upload,))


def pack(folder: Path, archive: Path) -> None:
    """Write the files of an exported model into a .tar.gz, whose bytes depend on their content alone."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name in FILES:
            member = tarfile.TarInfo(name)
            member.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source:
                tar.addfile(member, source)


def _check_packages() -> None:
    """Raise JobError if the exporter is not installed, before a model is fetched."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise JobError(
            f"--lite exports the model, for which {' and '.join(missing)} must be installed; run `make .venv/export`"
        )


def _fetch(aws: Aws, uri: str, path: Path) -> None:
    """Download the archive of a model; raise AwsError that says how a missing one is looked for."""
    try:
        fetch(aws, uri, path)
    except AwsError as error:
        if not error.is_absent:
            raise
        raise AwsError(f"{MISSING_FILE}: {uri}", error.code, error.status) from error


def _export(model: Path, golden: Path, tta: str, source: str) -> None:
    """Run code/export.py in a process of its own, because submit.py does without torch; what it prints is on stderr."""
    words = [f"--model-dir={model}", f"--golden-dir={golden}", f"--tta={tta}"]
    done = subprocess.run([sys.executable, str(_EXPORT), *words], stdout=2)  # noqa: S603  a list, without a shell
    if done.returncode:
        raise JobError(f"the model cannot be exported for the lite image, see the message above: {source}")
