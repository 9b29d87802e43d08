"""The files and folders below a folder, in one order for every command, and what is left out of them. No torch."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runtime.errors import DataError

_MOST = 8  # names in a message

# Why something is ignored, and what its owner can do about it.
LITTER = "litter of file systems and tools"
BROKEN_LINKS = "broken links"
LOOPS = "links to a folder that contains them"
SPECIAL_FILES = "pipes and devices"
REMEDIES = {
    LITTER: "rename what belongs to the data",
    BROKEN_LINKS: "repair or remove them",
    LOOPS: "remove them",
    SPECIAL_FILES: "replace them by files",
}

# What Synology, QNAP, NetApp, Windows, macOS, Linux and their tools leave in a folder, in lower case.
_LITTER = re.compile(
    r"#recycle|#snapshot|@eadir|@tmp|@recycle|@recently-snapshot|@sharesnap|@transcode|~snapshot|.*@syno\w+"
    r"|\$recycle\.bin|system volume information|found\.\d{3}|thumbs\.db|ehthumbs(_vista)?\.db"
    r"|desktop\.ini|picasa\.ini|zbthumbnail\.info"
    r"|__macosx|icon\r|network trash folder|temporary items|thevolumesettingsfolder"
    r"|lost\+found|lost\+found \(.*\)|__pycache__|~\$.*"
)


@dataclass(frozen=True)
class Listing:
    """The files and folders below `root`: relative paths with forward slashes, sorted by folder and name."""

    root: Path
    files: list[str]
    folders: list[str]
    ignored: dict[str, list[str]]  # by reason

    def subfolders(self, folder: str = "") -> list[str]:
        """Return the folders directly in a folder; the root is an empty string."""
        return self._subfolders.get(folder, [])

    def with_broken_links(self) -> list[str]:
        """Return the files, and the broken links, so that each is named as one that cannot be opened."""
        return sorted((*self.files, *self.ignored.get(BROKEN_LINKS, ())), key=_by_folder_and_name)

    @cached_property
    def _subfolders(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.folders:
            found.setdefault(name.rpartition("/")[0], []).append(name)
        return found


def list_folder(root: Path) -> Listing:
    """List a folder and follow its links, except back to a folder that contains the link. Hidden names are skipped.

    Raises DataError for a folder that cannot be read.
    """
    listing = Listing(root, [], [], {})
    todo: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while todo:
        folder, above = todo.pop()
        status = (root / folder).stat()
        inside = (*above, (status.st_dev, status.st_ino))
        for entry in _scan(root / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind(entry, inside)
            if kind == "folder":
                todo.append((name, inside))
                listing.folders.append(name)
            elif kind == "file":
                listing.files.append(name)
            else:
                listing.ignored.setdefault(kind, []).append(name)
    for names in (listing.files, listing.folders, *listing.ignored.values()):
        names.sort(key=_by_folder_and_name)
    return listing


def list_subfolders(folder: Path) -> list[str]:
    """Return the names of the folders directly in a folder, sorted; hidden ones and litter are skipped."""
    return sorted(entry.name for entry in _scan(folder) if not is_litter(entry.name) and _is_folder(entry))


def walk_files(root: Path) -> Iterator[str]:
    """Yield the path of every file below a folder as in `list_folder`, and broken links, which cannot be opened."""
    yield from list_folder(root).with_broken_links()


def is_file(path: Path) -> bool:
    """Return True if there is such a file; unlike Path.is_file, return False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_given(path: Path) -> bool:
    """Return True if there is something at a path that a user may leave out.

    Raises DataError for a broken link, with which the user gave a file that would be ignored.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path.name} is a broken link, expected a file; repair or remove it: {path}")
    return path.exists()


def size_bytes(path: Path) -> int | None:
    """Return the size of a file; None if it cannot be read, which is reported when it is decoded."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def describe_ignored(ignored: Mapping[str, list[str]], root: Path, remedies: Mapping[str, str] = REMEDIES) -> list[str]:
    """Return a sentence for each reason with the paths that are ignored, the remedy and the folder."""
    return [
        f"{why} ignored: {describe_names(paths)}; {remedies[why]}: {root}" for why, paths in ignored.items() if paths
    ]


def describe_names(paths: Sequence[str]) -> str:
    """Return the number of paths and the first of them, for a message of one line: `4 (a, b, c, d)`.

    Of paths that end with the same name, such as `@eaDir` in every folder, the second is shown after all other names.
    """
    firsts: dict[str, str] = {}
    for path in paths:
        firsts.setdefault(path.rpartition("/")[2], path)
    shown = list(dict.fromkeys((*firsts.values(), *paths)))[:_MOST]
    return f"{len(paths)} ({', '.join(map(printable, shown))}{', ...' if len(paths) > _MOST else ''})"


def printable(name: str) -> str:
    """Return a name for a message of one line in UTF-8: other characters are escaped as in Python."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def is_litter(name: str) -> bool:
    """Return True for the name of a file or folder that file systems and tools leave in a folder."""
    return _LITTER.fullmatch(name.lower()) is not None


def _by_folder_and_name(name: str) -> list[str]:
    return name.split("/")


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not hidden."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"a folder cannot be read ({error.strerror}); change its permissions: {folder}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _kind(entry: os.DirEntry[str], above: tuple[tuple[int, int], ...]) -> str:
    """Return "file", "folder", or why an entry is ignored; `above` are device and inode of the folders it is in."""
    if is_litter(entry.name):
        return LITTER
    try:
        if not entry.is_dir():
            is_broken = entry.is_symlink() and not entry.is_file() and not Path(entry.path).exists()
            return "file" if entry.is_file() else BROKEN_LINKS if is_broken else SPECIAL_FILES
        status = entry.stat()
        return LOOPS if entry.is_symlink() and (status.st_dev, status.st_ino) in above else "folder"
    except OSError:  # a link to itself
        return BROKEN_LINKS
