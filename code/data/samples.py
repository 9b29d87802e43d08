"""A data set as one table of images with person and label, and the readers of both folder layouts. No torch.

Columns: `path` (relative to the root, with forward slashes), `person` (an opaque id), `label` (class number), and one
per task of the scheme. Rows are sorted by path, so the same files give the same table on every machine.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.images import is_image_file
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
    ignored_files: int = 0

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

        Neither contents nor modification times count: SageMaker copies the data for each job.
        """
        rows = zip(self.table["path"], self.table["label"], map(_size_bytes, self.paths), strict=True)
        text = "\n".join(f"{path}\t{label}\t{size}" for path, label, size in rows)
        text += "\n" + "\n".join(self.scheme.classes)
        return hashlib.sha256(text.encode()).hexdigest()


def read_profiles(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read profile folders `<id>_<gender>_<race>_<age>`, each with mask1 to mask5, incorrect_mask and normal.

    `channel` is the folder that contains them, or one or two levels above it; `variable` names it in messages. Raises
    DataError for a folder name that is not a profile, an unknown gender or age, and a data set without images.
    """
    existing_folder(channel, variable, f"profile folders such as {_PROFILE}")
    root = _find_profiles(channel, variable)
    rows, ignored = [], 0
    for folder in _folders(root):
        person, gender, age = _read_profile(folder)
        for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_file()):
            mask = MASK_OF_STEM.get(name.rsplit(".", 1)[0])
            if name.startswith("."):
                continue
            if mask is None or not is_image_file(name):
                ignored += 1
                continue
            label = MASKED_FACES.encode(mask, gender, age)
            rows.append((f"{folder.name}/{name}", person, label, int(mask), int(gender), int(age)))
    if not rows:
        raise DataError(f"no images in the profile folders of {variable}, expected {_PROFILE}: {root}")
    table = _tabulate(rows, ("path", "person", "label", "mask", "gender", "age"), root)
    return Samples(root, table, MASKED_FACES, ignored)


def read_class_folders(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read one folder per class, as torchvision's ImageFolder does; every image counts as a person of its own.

    `variable` names the channel in messages. Raises DataError for a class without images.
    """
    existing_folder(channel, variable, "one folder per class")
    classes = _folders(channel)
    scheme = LabelScheme("folders", tuple(folder.name for folder in classes))
    rows, ignored = [], 0
    for label, folder in enumerate(classes):
        files = [path.relative_to(channel) for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
        images = [path.as_posix() for path in files if is_image_file(path.name)]
        if not images:
            raise DataError(f"no images for class {folder.name!r}, expected at least one: {folder}")
        ignored += len(files) - len(images)
        rows += [(image, image, label) for image in images]
    return Samples(channel, _tabulate(rows, ("path", "person", "label"), channel), scheme, ignored)


# The reader of each data set in dataset.py, by its name; here, so that submit.py can check a folder without torch.
READERS: dict[str, Callable[[Path, str], Samples]] = {
    "MaskSplitByProfileDataset": read_profiles,
    "MaskBaseDataset": read_profiles,
    "ImageFolderDataset": read_class_folders,
}


def _size_bytes(path: Path) -> int | None:
    """Return the size of a file; None if it cannot be read, which is reported when it is decoded."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _tabulate(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...], root: Path) -> pd.DataFrame:
    """Return the rows sorted by path; raise DataError for a path that is not UTF-8, as split.csv and logs are."""
    for path, *_ in rows:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(f"the name {path!r} is not UTF-8, rename the file or folder: {root}") from None
    return pd.DataFrame(rows, columns=columns).sort_values("path", ignore_index=True)


def _find_profiles(channel: Path, variable: str) -> Path:
    """Return the folder that contains the profile folders: the channel, or one that is one or two levels below."""
    for level in _levels(channel):
        found = [folder for folder in level if any(_looks_like_profile(child) for child in _folders(folder))]
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found[:4])
            raise DataError(
                f"{variable} contains several data sets ({names}), expected one; pass the one to use: {channel}"
            )
        if found:
            return found[0]
    raise DataError(f"no profile folders under {variable}, expected {_PROFILE}: {channel}")


def _levels(channel: Path) -> Iterator[Sequence[Path]]:
    level = [channel]
    for _ in range(3):
        yield level
        level = [child for folder in level for child in _folders(folder)]


def _looks_like_profile(folder: Path) -> bool:
    return folder.name.count("_") == 3


def _folders(folder: Path) -> list[Path]:
    """Return the sub-folders by name, without hidden ones."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


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
