"""Files between this machine and S3: folders are uploaded under a digest of their contents, archives are checked.

A folder `faces` is uploaded to .../data/faces-<digest>/; the digest depends on every path and every byte in it. So the
same folder is uploaded once, an interrupted upload is resumed, a changed folder never mixes with its earlier version,
and a job can be repeated on the very same data.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import Any, BinaryIO

from boto3.s3.transfer import TransferConfig
from tqdm import tqdm

from data.listing import list_folder
from data.names import check_names
from jobs.aws import TRANSFER_THREADS, Aws, AwsError, explained
from runtime.archives import ArchiveError, members, open_archive
from runtime.errors import DataError
from runtime.files import existing_folder, file_sha256, remove_temporary_files, replacing, short_name
from runtime.process import cpu_count

MISSING_FILE = "a file that the job needs does not exist; `submit.py status` shows whether its job has ended"
MAX_UNPACKED_BYTES = 64 << 30  # of an archive

_PARENT = attrgetter("parent")


@dataclass(frozen=True)
class Upload:
    """Local files and the S3 folder they are uploaded to; `uri` ends with a slash.

    Those in `contents` are not below `root`: submit.py wrote them, or downloaded them.
    """

    root: Path
    names: tuple[str, ...]
    uri: str
    size_bytes: int
    ignored: Mapping[str, list[str]] = field(default_factory=dict)  # litter and links that lead nowhere, by reason
    contents: Mapping[str, bytes] = field(default_factory=dict)  # by name
    stamps: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False)  # of the files, for the digest

    def open(self, name: str) -> BinaryIO:
        """Open one of the files for reading."""
        return io.BytesIO(self.contents[name]) if name in self.contents else (self.root / name).open("rb")

    def check_unchanged(self, name: str) -> None:
        """Raise DataError for a file that is not that of the digest any more."""
        if name in self.stamps and _stamp(self.root / name) != self.stamps[name]:
            raise DataError(f"a file changed during the upload; submit again: {self.root / name}")


def split_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of s3://bucket/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def plan_upload(
    root: Path,
    flag: str,
    parent_uri: str,
    accept: Callable[[str], bool] = lambda name: True,
    expected: str = "files to upload",
) -> Upload:
    """Return the upload of the files whose names are accepted, as training lists them (data/listing.py).

    Links are followed; hidden names are skipped. Raises DataError if there is nothing to upload, and for names that are
    not UTF-8 or differ only in their Unicode form.
    """
    existing_folder(root, f"--{flag}", expected)
    listing = list_folder(root)
    check_names(listing.files, root)
    names = sorted(name for name in listing.files if accept(PurePosixPath(name).name))
    if not names:
        raise DataError(f"no matching files in --{flag}, expected {expected}: {root}")
    return replace(upload_of(root, names, parent_uri), ignored=listing.ignored)


def upload_of(root: Path, names: Sequence[str], parent_uri: str) -> Upload:
    """Return the upload of these files of a folder, in this order."""
    stamps = {name: _stamp(root / name) for name in names}
    with ThreadPoolExecutor(cpu_count()) as pool:
        digests = list(pool.map(lambda name: file_sha256(root / name), names))
    uri = _folder_uri(parent_uri, root.resolve().name, names, digests)
    return Upload(root, tuple(names), uri, sum(size for size, _ in stamps.values()), stamps=stamps)


def upload_of_contents(folder: str, contents: Mapping[str, bytes], parent_uri: str) -> Upload:
    """Return the upload of files that are in memory to a folder of this name and their digest."""
    digests = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    uri = _folder_uri(parent_uri, folder, tuple(contents), digests)
    return Upload(Path(), tuple(contents), uri, sum(map(len, contents.values())), contents=contents)


def send(aws: Aws, upload: Upload, kms_key: str | None) -> int:
    """Upload the files that are not in S3 yet, with a progress bar on a terminal; return their number."""
    bucket, prefix = split_uri(upload.uri)
    known = {entry["Key"] for entry in list_objects(aws, upload.uri)}
    missing = [name for name in upload.names if prefix + name not in known]  # the digest in the URI covers contents
    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    client, config = aws.client("s3"), TransferConfig(use_threads=False)

    def put(name: str) -> None:
        try:
            upload.check_unchanged(name)
            with explained("s3", "PutObject"), upload.open(name) as file:
                client.upload_fileobj(file, bucket, prefix + name, ExtraArgs=extra, Config=config)
            upload.check_unchanged(name)
        except DataError:  # no later upload may find other bytes than those of the digest
            aws.call("s3", "DeleteObject", Bucket=bucket, Key=prefix + name)
            raise
        except FileNotFoundError:
            raise DataError(f"a file vanished during the upload; submit again: {upload.root / name}") from None

    with ThreadPoolExecutor(TRANSFER_THREADS) as pool, tqdm(total=len(missing), unit="file", disable=None) as bar:
        try:
            for _ in pool.map(put, missing):
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(missing)


def list_objects(aws: Aws, uri: str) -> Iterator[dict[str, Any]]:
    """Yield every object under a prefix, as S3 describes it."""
    bucket, prefix = split_uri(uri)
    for page in aws.pages("s3", "ListObjectsV2", Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def fetch(aws: Aws, uri: str, path: Path, *, remove_stale: bool = True) -> None:
    """Download one object, whole or not at all; raise AwsError that names it. `remove_stale` as for `replacing`."""
    bucket, key = split_uri(uri)
    client = aws.client("s3")
    try:
        with replacing(path, "wb", remove_stale=remove_stale) as file, explained("s3", "GetObject"):
            client.download_fileobj(bucket, key, file)
    except AwsError as error:
        raise AwsError(f"{error}: {uri}", error.code, error.status) from error


def fetch_folder(aws: Aws, uri: str, folder: Path) -> dict[str, Path]:
    """Download every object under a prefix, with its sub-folders; return the files by their name below the prefix.

    Other files stay. A name that is too long for a file is replaced by a digest.
    """
    bucket, prefix = split_uri(uri.rstrip("/") + "/")
    wanted = [entry for entry in list_objects(aws, f"s3://{bucket}/{prefix}") if not entry["Key"].endswith("/")]
    names = [entry["Key"].removeprefix(prefix) for entry in wanted]
    paths = [_inside(folder, name) for name in names]
    for parent, siblings in groupby(sorted(paths, key=_PARENT), _PARENT):
        remove_temporary_files(parent, {path.name for path in siblings})

    def download(entry: dict[str, Any], path: Path) -> None:
        fetch(aws, f"s3://{bucket}/{entry['Key']}", path, remove_stale=False)

    aws.client("s3")  # before the threads: creating clients is not thread-safe
    with ThreadPoolExecutor(TRANSFER_THREADS) as pool:
        list(pool.map(download, wanted, paths))
    return dict(zip(names, paths, strict=True))


def extract(archive: Path, folder: Path) -> list[Path]:
    """Unpack the regular files of a .tar.gz, each whole or not at all; return them.

    Raises DataError for a damaged archive, a name that leads out of the folder, a link or a device.
    """
    paths = []
    try:
        with open_archive(archive) as tar:
            for member in members(tar, MAX_UNPACKED_BYTES):
                if member.isdir():
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None:
                    raise DataError(f"{member.name!r} is a link or a device, expected a file: {archive}")
                paths.append(_inside(folder, member.name))
                with replacing(paths[-1], "wb") as file:
                    copyfileobj(source, file)
    except ArchiveError as error:
        raise DataError(f"{error.reason}; download it again: {archive}") from error
    return paths


def _folder_uri(parent_uri: str, folder: str, names: Sequence[str], digests: Sequence[str]) -> str:
    whole = hashlib.sha256("".join(f"{digest} {name}\n" for digest, name in zip(digests, names, strict=True)).encode())
    return f"{parent_uri}/{_readable(folder)}-{whole.hexdigest()}/"


def _stamp(path: Path) -> tuple[int, int]:
    """Return the size of a file and the time of its last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _readable(name: str) -> str:
    """Return a folder's name with dashes for what would need quoting in an S3 key."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in name)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a name below a folder; raise DataError if it is outside."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise DataError(f"{name!r} leads out of the folder: {folder}")
    return folder / Path(*map(short_name, parts))
