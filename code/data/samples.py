"""A data set as one table of images with person and label, and the readers of both folder layouts. No torch.

Columns: `path` (relative to the root, with forward slashes), `person` (an opaque id), `label` (class number), and one
per task of the scheme. Rows are sorted by path, so the same files give the same table on every machine.
"""

import hashlib
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.images import is_image_file
from data.layout import ImageCounts, check_image_names, check_no_split, find_classes, find_hints, find_ignored
from data.listing import Listing, list_folder, size_bytes
from data.names import first_names
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels, LabelScheme
from runtime.errors import DataError
from runtime.files import existing_folder

_PROFILE = "<id>_<gender>_<race>_<age>/mask1.jpg"


@dataclass(frozen=True)
class Samples:
    """The table of a data set, the folder that its paths are relative to, and what its labels mean."""

    root: Path
    table: pd.DataFrame
    scheme: LabelScheme
    ignored: Mapping[str, list[str]] = field(default_factory=dict)  # relative paths by reason, see layout.py

    @property
    def ignored_files(self) -> int:
        """Return the number of files, links and folders that are ignored."""
        return sum(map(len, self.ignored.values()))

    @cached_property
    def paths(self) -> list[Path]:
        """Return the path of every image, in the order of the table."""
        return [self.root / path for path in self.table["path"]]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Return the class number of every image, (images,)."""
        return self.table["label"].to_numpy(np.int64)

    def fingerprint(self) -> str:
        """Return a sha256 over path, label and size of every image, which tells data sets apart.

        Contents do not count, so nothing is read for it; they are compared as the images are decoded (digests.py).
        Modification times do not count either: SageMaker copies the data for each job.
        """
        rows = zip(self.table["path"], self.table["label"], map(size_bytes, self.paths), strict=True)
        text = "\n".join(f"{path}\t{label}\t{size}" for path, label, size in rows)
        text += "\n" + "\n".join(self.scheme.classes)
        return hashlib.sha256(text.encode()).hexdigest()


def read_profiles(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read profile folders `<id>_<gender>_<race>_<age>`, each with mask1 to mask5, incorrect_mask and normal.

    `channel` is the folder that contains them, or one or two levels above it; `variable` names it in messages. Raises
    DataError for a folder name that is not a profile, an unknown gender or age, and a data set without images.
    """
    existing_folder(channel, variable, f"profile folders such as {_PROFILE}")
    listing = list_folder(channel)
    check_image_names(listing)
    folder = _find_profiles(listing, variable)
    people = {profile: _read_profile(channel / profile) for profile in listing.subfolders(folder)}
    rows, used = [], []
    for path in listing.files:
        profile, _, name = path.rpartition("/")
        mask = MASK_OF_STEM.get(name.rsplit(".", 1)[0])
        if mask is None or not is_image_file(name) or profile not in people:
            continue
        person, gender, age = people[profile]
        label = MASKED_FACES.encode(mask, gender, age)
        rows.append((path.removeprefix(f"{folder}/"), person, label, int(mask), int(gender), int(age)))
        used.append(path)
    root = channel / folder
    if not rows:
        raise DataError(f"no images in the profile folders of {variable}, expected {_PROFILE}: {root}")
    table = _tabulate(rows, ("path", "person", "label", "mask", "gender", "age"))
    ignored = find_ignored(listing, used, folder).items()
    relative = {why: [posixpath.relpath(name, folder or ".") for name in names] for why, names in ignored}
    return Samples(root, table, MASKED_FACES, relative)


def read_class_folders(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read one folder per class, as torchvision's ImageFolder does; every image counts as a person of its own.

    `variable` names the channel in messages. Raises DataError for fewer than two classes, a class without images, and
    folders that are no classes, such as train and val.
    """
    existing_folder(channel, variable, "one folder per class")
    listing = list_folder(channel)
    check_image_names(listing)
    classes = find_classes(listing, variable)
    labels = {name: label for label, name in enumerate(classes)}
    images = [name for name in listing.files if is_image_file(name) and "/" in name]
    rows = [(image, image, labels[image.partition("/")[0]]) for image in images]
    table = _tabulate(rows, ("path", "person", "label"))
    return Samples(channel, table, LabelScheme("folders", tuple(classes)), find_ignored(listing, images))


# The reader of each data set in dataset.py, by its name; here, so that submit.py can check a folder without torch.
READERS: dict[str, Callable[[Path, str], Samples]] = {
    "MaskSplitByProfileDataset": read_profiles,
    "MaskBaseDataset": read_profiles,
    "ImageFolderDataset": read_class_folders,
}


def _tabulate(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows sorted by path."""
    return pd.DataFrame(rows, columns=columns).sort_values("path", ignore_index=True)


def _find_profiles(listing: Listing, variable: str) -> str:
    """Return the folder that contains the profile folders: the channel, or one that is one or two levels below."""
    level = [""]
    for _ in range(3):
        below = {folder: listing.subfolders(folder) for folder in level}
        found = [folder for folder in level if any(_looks_like_profile(child) for child in below[folder])]
        if len(found) > 1:
            check_no_split(found, ImageCounts.of(listing.files), variable, listing.root)
            raise DataError(
                f"{variable} contains several data sets ({first_names(found)}), expected one; pass the one to use: "
                f"{listing.root}"
            )
        if found:
            return found[0]
        level = [child for children in below.values() for child in children]
    raise DataError(f"no profile folders under {variable}, expected {_PROFILE}{find_hints(listing)}: {listing.root}")


def _looks_like_profile(folder: str) -> bool:
    return folder.rpartition("/")[2].count("_") == 3


def _read_profile(folder: Path) -> tuple[str, GenderLabels, AgeLabels]:
    """Return the id, gender and age group in the name of a profile folder."""
    parts = folder.name.split("_")
    if len(parts) != 4:
        raise DataError(
            f"{folder.name!r} is not a profile, expected <id>_<gender>_<race>_<age>; rename or remove it: {folder}"
        )
    try:
        return parts[0], GenderLabels.from_str(parts[1]), AgeLabels.from_number(parts[3])
    except DataError as error:
        raise DataError(f"{error}; rename the profile folder: {folder}") from None
