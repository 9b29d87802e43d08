"""Folders that must exist, regular files that are read within a limit, and files that are written whole. No torch."""

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from runtime.errors import DataError

NAME_BYTES = 255  # most in one name, of every usual file system
ANY_SIZE = 1 << 63  # for files that are read in parts
RANDOM_CHARACTERS = "[a-z0-9_]{8}"  # what tempfile adds to a name
_TEMPORARY = re.compile(rf"\.(.+)\.{RANDOM_CHARACTERS}\.tmp", re.DOTALL)


class UnusableFile(OSError):
    """A file that is not read, because of its kind, its name or its size; `strerror` says why."""

    def __init__(self, reason: str, path: Path, *, is_too_large: bool = False) -> None:
        super().__init__(errno.EINVAL, reason, str(path))
        self.is_too_large = is_too_large


def existing_folder(path: Path, variable: str, expected: str) -> Path:
    """Return the folder; raises DataError if it is missing, is a file, or is empty."""
    if not path.exists():
        raise DataError(f"{variable} does not exist, expected {expected}: {path}")
    if not path.is_dir():
        raise DataError(f"{variable} is a file, expected a folder with {expected}: {path}")
    if not any(path.iterdir()):
        raise DataError(f"{variable} is empty, expected {expected}: {path}")
    return path


def check_writable(folder: Path) -> None:
    """Raise the OSError that writing into a folder would raise; the folder need not exist yet.

    A command that publishes after hours of work calls this at its start.
    """
    while not folder.exists():
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:  # which names the temporary file
        raise type(error)(error.errno, error.strerror, str(folder)) from None


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what a folder holds under a pattern of names, sorted, without hidden files, such as `._NAME` of macOS."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def open_regular(path: Path, most_bytes: int) -> io.BufferedReader:
    """Open a regular file of at most so many bytes for reading, or a link to one.

    Nothing is waited for: a pipe has no end, a device may have effects, a sparse file takes more memory than disk.
    Raises UnusableFile for anything else and for a name that no file can have, and other OSErrors as `open` does.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:  # a zero byte, or a character that file names cannot have
        raise UnusableFile("not the name of a file", path) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise UnusableFile(_NOT_REGULAR, path) from None
        raise
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFile(_NOT_REGULAR, path)
        if status.st_size > most_bytes:
            raise _too_large(path, status.st_size, most_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the name of a file: that of a full or broken disk has none, and the user needs it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file as `open_regular` opens it; raises UnusableFile if it grows beyond the limit."""
    with open_regular(path, most_bytes) as file, naming(path):
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise _too_large(path, len(data), most_bytes)
    return data


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file of any size in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_NOT_REGULAR = "a pipe, device or socket, expected a regular file"


def _too_large(path: Path, found: int, most_bytes: int) -> UnusableFile:
    return UnusableFile(f"{found} bytes are more than the {most_bytes} allowed", path, is_too_large=True)


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", *, remove_stale: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path` once it is complete and synced; its mode is 0644, as SageMaker needs.

    If anything fails, `path` is unchanged. Temporary files that killed writers of `path` left are removed, unless
    `remove_stale` is false: finding them lists the whole folder.
    """
    make_folder(path.parent)
    if remove_stale:
        remove_temporary_files(path.parent, {path.name})
    descriptor, temporary = tempfile.mkstemp(prefix=f".{_temporary_stem(path.name)}.", suffix=".tmp", dir=path.parent)
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with naming(path), os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        fsync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_temporary_files(folder: Path, names: Collection[str]) -> None:
    """Remove the temporary files that killed writers of files with these names left."""
    stems = {_temporary_stem(name) for name in names}
    for temporary in folder.glob(".*.*.tmp"):
        if target_of(temporary.name) in stems:
            temporary.unlink(missing_ok=True)


def target_of(temporary: str) -> str | None:
    """Return the name of the file that a temporary file of `replacing` becomes; None if its name is not of that kind.

    A target with a very long name is known by its digest.
    """
    found = _TEMPORARY.fullmatch(temporary)
    return found[1] if found else None


def _temporary_stem(name: str) -> str:
    """Return the start of the name of a temporary file: 14 bytes more, as mkstemp adds, still fit into a name."""
    return short_name(name, NAME_BYTES - 14)


def short_name(name: str, most: int = NAME_BYTES) -> str:
    """Return a file name of at most `most` bytes (64 or more): the name itself, or else a digest of it."""
    data = os.fsencode(name)
    return name if len(data) <= most else hashlib.sha256(data).hexdigest()


def make_folder(path: Path) -> None:
    """Create a folder and those above it, so that they survive a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
