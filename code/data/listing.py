"""The files below a folder, in one order for every command. No torch."""

from collections.abc import Iterator
from pathlib import Path


def walk_files(root: Path) -> Iterator[str]:
    """Yield the path of every file below a folder, relative to it, with forward slashes, sorted.

    Links are followed, also to folders, except back to a folder that contains the link. A dangling link counts as a
    file, so that it is named as one that cannot be opened. Hidden files and folders are skipped, and so are devices.
    """
    yield from _walk(root, "", ())


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the files below a folder; `above` are the device and inode of the folders that contain it."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            yield from _walk(path, f"{prefix}{path.name}/", (*above, identity))
        elif path.is_file() or not path.exists():
            yield prefix + path.name


def is_file(path: Path) -> bool:
    """Return True if there is such a file; unlike Path.is_file, return False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False
