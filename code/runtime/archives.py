"""Archives (.tar, .tar.gz) that are read with limits, one member after the other. No torch.

    with open_archive(path) as archive:
        for member in members(archive, most_bytes):
            data = read_member(archive, member, most_bytes)

A small archive may claim members, headers and sparse files of any size, so each is compared with its limit before it
is read or skipped. Everything that is wrong with an archive is an ArchiveError.
"""

import contextlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Self

from runtime.errors import DataError, reason_of
from runtime.files import ANY_SIZE, open_regular

try:
    from lzma import LZMAError
except ImportError:  # Python was built without it
    LZMAError = zlib.error  # type: ignore[misc, assignment]

MAX_HEADER_BYTES = 1 << 20  # of the names and attributes of a member
MAX_MEMBERS = 10_000

_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class ArchiveError(DataError):
    """An archive is damaged or exceeds a limit; `reason` is the message without the path."""

    def __init__(self, reason: str, path: Path | str) -> None:
        super().__init__(f"{reason}: {path}")
        self.reason = reason


class _ExceededError(Exception):
    """A header exceeds a limit; tarfile passes this through, unlike its own errors."""


class _Member(tarfile.TarInfo):
    """A member whose headers are limited: tarfile reads them whole before anybody can ask for their size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and not 0 <= member.size <= MAX_HEADER_BYTES:
            raise _ExceededError(f"a header claims {member.size} bytes, more than the {MAX_HEADER_BYTES} allowed")
        return member

    def _reject_sparse(self, *_: Any) -> NoReturn:
        raise _ExceededError("a file is stored sparsely, which is not accepted")

    # tarfile reads the maps of sparse files, which have no limit, in these methods.
    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _reject_sparse


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive; raises ArchiveError for what is wrong with it, here and in the `with` block."""
    try:
        with (
            open_regular(path, ANY_SIZE) as file,
            tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member) as archive,
        ):
            yield archive
    except _ExceededError as error:
        raise ArchiveError(f"the archive is rejected ({error})", path) from None
    except (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ArchiveError(f"the archive is damaged ({reason_of(error)})", path) from error


def members(archive: tarfile.TarFile, most_bytes: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, which together may unpack to `most_bytes`."""
    total = 0
    for number, member in enumerate(archive, start=1):
        total += member.size
        if member.size < 0 or total > most_bytes or number > MAX_MEMBERS:
            raise _ExceededError(
                f"it unpacks to {total} bytes in {number} files or more, expected at most {most_bytes} in {MAX_MEMBERS}"
            )
        yield member


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, most_bytes: int) -> bytes:
    """Return the bytes of the member that `members` has just yielded, a regular file of at most `most_bytes`."""
    source = archive.extractfile(member) if member.isreg() else None
    if source is None:
        raise _ExceededError(f"{member.name!r} is a link or a device, expected a file")
    if member.size > most_bytes:
        raise _ExceededError(f"{member.name!r} has {member.size} bytes, more than the {most_bytes} allowed")
    return source.read()


def read_top_file(path: Path, name: str, *, most_bytes: int, most_unpacked_bytes: int) -> bytes | None:
    """Return the file `name` at the top level of an archive, None if there is none; what comes after is not read.

    Raises ArchiveError for a file of more than `most_bytes`, or an archive of more than `most_unpacked_bytes` so far.
    """
    with open_archive(path) as archive:
        for member in members(archive, most_unpacked_bytes):
            if member.name.removeprefix("./") == name and member.isreg():
                return read_member(archive, member, most_bytes)
    return None
