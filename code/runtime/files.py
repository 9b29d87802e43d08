"""Folders that must be there, and files that are written whole or not at all. No torch."""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from runtime.errors import DataError


def existing_folder(path: Path, variable: str, expected: str) -> Path:
    """The folder itself; raises DataError where it is missing, is a file, or is empty."""
    if not path.exists():
        raise DataError(f"{variable} does not exist, expected {expected}: {path}")
    if not path.is_dir():
        raise DataError(f"{variable} is a file, expected a folder with {expected}: {path}")
    if not any(path.iterdir()):
        raise DataError(f"{variable} is empty, expected {expected}: {path}")
    return path


def check_writable(folder: Path) -> None:
    """Raise the OSError that writing into a folder would, which need not be there yet: hours before it is needed."""
    while not folder.exists():
        folder = folder.parent
    tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", *, remove_stale: bool = True) -> Iterator[IO[Any]]:
    """Open a file that takes the place of `path` only when it is complete and on the disk; 0644, as SageMaker needs.

    Whatever goes wrong in between, `path` is what it was before. What a killed writer left of it is removed, for which
    the whole folder is looked through unless `remove_stale` is false.
    """
    make_folder(path.parent)
    if remove_stale:
        remove_temporary_files(path.parent, {path.name})
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        fsync_folder(path.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say where; the user needs to know
        raise


def remove_temporary_files(folder: Path, names: Collection[str]) -> None:
    """Remove what killed writers left of files of these names."""
    for stray in folder.glob(".*.*.tmp"):
        if stray.name[1:].rsplit(".", 2)[0] in names:
            stray.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that they survive a power cut too."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
