"""Checks of the layout of a data set: each mistake is one sentence that says which folder to pass. No torch.

Folders can look like classes and be none: the parts of a split, or one folder around the classes. Classes can be
missing because their images are in an archive or directly in the root, or because an archive was unpacked without
folders.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data.images import EXTENSIONS, is_image_file
from data.listing import BROKEN_LINKS, REMEDIES, Listing, describe_names
from data.names import check_names
from runtime.errors import DataError

# More reasons to ignore a file than those of a listing.
LOOSE_IMAGES = "images outside the folders"
OTHER_IMAGES = "images with other names"
ARCHIVES = "archives"
TABLES = "tables with other names"
OTHER_FILES = "other files"
UNLISTED = "images without a row in the table"
OTHER_PARTS = "folders that are no part of training or validation"
ALL_REMEDIES = REMEDIES | {
    LOOSE_IMAGES: "move each into the folder that it belongs to",
    OTHER_IMAGES: "rename them to mask1 to mask5, incorrect_mask or normal",
    ARCHIVES: "unpack them",
    TABLES: "call the labels labels.csv, labels.jsonl, labels.parquet or NAME.manifest",
    UNLISTED: "add rows for them, or remove them",
    OTHER_PARTS: "label their images with infer, or move them into train",
    OTHER_FILES: f"only {', '.join(EXTENSIONS)} are read",
}

_ARCHIVE = re.compile(r".*\.(zip|rar|7z|tar|tgz|tbz2?|txz|tar\.\w+)", re.IGNORECASE)
_TABLE = re.compile(r".*\.(csv|jsonl|parquet|lst|manifest)", re.IGNORECASE)
_PARTS = {
    "train": {"train", "training", "trainset"},
    "validation": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing", "testset", "eval", "evaluation", "holdout"},
}
_FILLERS = {"set", "data", "dataset", "split", "folder", "images", "image", "img", "imgs"}


@dataclass(frozen=True)
class ImageCounts:
    """The number of images directly in each folder, and in it and the folders below it; the root is an empty string."""

    own: Counter[str] = field(default_factory=Counter)
    below: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, files: Iterable[str]) -> "ImageCounts":
        """Count the images among files."""
        counts = cls()
        for name in filter(is_image_file, files):
            folder = name.rpartition("/")[0]
            counts.own[folder] += 1
        for folder, number in counts.own.items():
            while folder:
                counts.below[folder] += number
                folder = folder.rpartition("/")[0]
        return counts


def check_image_names(listing: Listing) -> None:
    """Raise DataError for names that are not UTF-8, differ only in their Unicode form, or contain a backslash."""
    names = [*listing.folders, *filter(is_image_file, listing.files)]
    check_names(names, listing.root)
    if windows := [name for name in names if "\\" in name]:
        raise DataError(
            f"names with a backslash: {describe_names(windows)}, expected folders; unpack the archive again with a "
            f"tool that makes folders of them: {listing.root}"
        )


def find_classes(listing: Listing, variable: str) -> list[str]:
    """Return the class folders, sorted; raise DataError if the folders are no classes. `variable` names the channel."""
    counts = ImageCounts.of(listing.files)
    nested = _find_nested(listing, counts)
    inner = [name for name in listing.subfolders(nested) if counts.below[name]]
    check_no_split(inner, counts, variable, listing.root)
    if nested and len(inner) > 1:
        raise DataError(
            f"{variable} contains one folder around the class folders ({describe_names(inner)}), expected the class "
            f"folders; pass its folder {nested} as {variable}: {listing.root}"
        )
    classes = sorted(listing.subfolders())
    if len(classes) < 2:
        found = "".join(f", found {name} ({counts.below[name]} images)" for name in classes)
        raise DataError(
            f"{variable} has {len(classes)} classes; at least 2 are needed, one folder per class{found}"
            f"{find_hints(listing)}: {listing.root}"
        )
    for name in classes:
        if not counts.below[name]:
            hints = find_hints(listing, f"{name}/")
            raise DataError(f"no images for class {name!r}, expected at least one{hints}: {listing.root / name}")
    return classes


def check_no_split(folders: Collection[str], counts: ImageCounts, variable: str, root: Path) -> None:
    """Raise DataError if folders are the parts of a split, such as train and val.

    Folders of such names are classes if all have images of their own and a folder of another name is beside them.
    """
    parts = {folder: part for folder in folders if (part := _part_of(folder))}
    nested = [folder for folder in parts if not counts.own[folder]]
    if len(set(parts.values())) < 2 or (len(parts) < len(folders) and not nested):
        return
    train = next((folder for folder, part in parts.items() if part == "train"), "to train on")
    others = " and ".join(folder for folder in parts if folder != train)
    first = f"make one folder per class in {train}, " if train in parts and train not in nested else ""
    raise DataError(
        f"{variable} contains the parts of a split ({', '.join(parts)}), expected one of them; {first}pass its "
        f"folder {train} as {variable}, --val-ratio splits off the validation, and {others} as images to label: {root}"
    )


def find_ignored(listing: Listing, used: Iterable[str], folder: str = "") -> dict[str, list[str]]:
    """Return the ignored files by reason, if the files `used` are the data set, and `folder` contains its folders.

    Files outside `folder` that are not images, such as a table beside it, are not meant to be read.
    """
    ignored, images = dict(listing.ignored), set(used)
    folders = {name.rpartition("/")[0] for name in images}
    for name in (name for name in listing.files if name not in images):
        if is_image_file(name):
            why = OTHER_IMAGES if name.rpartition("/")[0] in folders else LOOSE_IMAGES
        elif name.startswith(f"{folder}/" if folder else ""):
            why = ARCHIVES if _ARCHIVE.fullmatch(name) else OTHER_FILES
        else:
            continue
        ignored.setdefault(why, []).append(name)
    return ignored


def find_hints(listing: Listing, prefix: str = "") -> str:
    """Return where the images may be that a folder lacks, for the end of a sentence; `prefix` ends with a slash."""
    files = [name for name in listing.files if name.startswith(prefix) and "/" not in name.removeprefix(prefix)]
    found = {
        LOOSE_IMAGES: [] if prefix else [name for name in files if is_image_file(name)],
        ARCHIVES: [name for name in files if _ARCHIVE.fullmatch(name)],
        TABLES: [] if prefix else [name for name in files if _TABLE.fullmatch(name)],
        BROKEN_LINKS: [name for name in listing.ignored.get(BROKEN_LINKS, ()) if name.startswith(prefix)],
    }
    return "".join(f"; {why}: {describe_names(names)}, {ALL_REMEDIES[why]}" for why, names in found.items() if names)


def _find_nested(listing: Listing, counts: ImageCounts) -> str:
    """Return the folder around the class folders: down for as long as there is one with images, none of its own."""
    folder = ""
    while True:
        inner = [name for name in listing.subfolders(folder) if counts.below[name]]
        if len(inner) != 1 or counts.own[inner[0]]:
            return folder
        folder = inner[0]


def _part_of(folder: str) -> str | None:
    """Return the part of a split that a folder is by its name, such as train2017 or val/images; None for others."""
    for name in reversed(folder.split("/")):
        words = set(re.findall(r"[a-z]+", name.lower()))
        found = [part for part, names in _PARTS.items() if words & names]
        if len(found) == 1 and words <= _PARTS[found[0]] | _FILLERS:
            return found[0]
    return None
