"""The inputs of a job: from an option that names data to the S3 folder that the job reads, and its upload."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from data.listing import is_file
from data.names import first_names
from data.tables import INFO_CSV, find_images
from jobs.common import JobLocation
from jobs.s3 import Upload, plan_upload, upload_of
from runtime.errors import DataError

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


def resolve_images(location: JobLocation, flag: str, text: str) -> Input:
    """Return the S3 folder for an option that names images to label, and the upload of those that inference would read.

    Raises DataError if there is no image, or one outside the folder. Images of info.csv that do not exist are named.
    """
    if text.startswith("s3://"):
        return text.rstrip("/") + "/", ()
    root = Path(text)
    table, paths = find_images(root, f"--{flag}")
    outside = [path for path in paths if ".." in path.parts[len(root.parts) :] or not path.is_relative_to(root)]
    if outside:
        raise DataError(f"an image of {INFO_CSV} is outside --{flag}, expected all inside: {outside[0]}")
    missing = [name for name, path in zip(table.names, paths, strict=True) if not is_file(path)]
    if len(missing) == len(paths):
        raise DataError(f"none of the {len(paths)} images of --{flag} exists, such as {missing[0]!r}: {root}")
    if missing:
        print(f"warning: {len(missing)} of {len(paths)} images do not exist: {first_names(missing)}", file=sys.stderr)
    names = {path.relative_to(root).as_posix() for path in paths if is_file(path)}
    upload = upload_of(root, sorted(names), location.uri("data"))
    return upload.uri, (upload,)


def existing_inputs(uris: Iterable[str], uploads: Sequence[Upload]) -> tuple[str, ...]:
    """Return the folders and files that no upload brings: they must be in S3 already."""
    filled = {upload.uri for upload in uploads}
    return tuple(uri for uri in uris if uri[: uri.rindex("/") + 1] not in filled)
