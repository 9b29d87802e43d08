"""The inputs of a job: from an option that names data to the S3 folder that the job reads, and its upload."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jobs.common import JobLocation
from jobs.s3 import Upload, plan_upload

Input = tuple[str, tuple[Upload, ...]]  # an S3 folder, with a slash at the end, and the upload that fills it


def resolve_input(
    location: JobLocation,
    flag: str,
    text: str,
    accept: Callable[[str], bool] = lambda name: True,
    expected: str = "files to upload",
) -> Input:
    """Return the S3 folder for an option that names a local folder or an S3 folder, and its upload.

    Of a local folder, the files whose names `accept` are uploaded; `expected` describes them. Raises DataError if there
    is none.
    """
    if text.startswith("s3://"):
        return text.rstrip("/") + "/", ()
    upload = plan_upload(Path(text), flag, location.uri("data"), accept, expected)
    return upload.uri, (upload,)


def existing_inputs(uris: Iterable[str], uploads: Sequence[Upload]) -> tuple[str, ...]:
    """Return the folders that no upload fills: they must be in S3 already."""
    filled = {upload.uri for upload in uploads}
    return tuple(uri for uri in uris if uri not in filled)
