"""The reader of profile folders, the layout of the competition: one folder per person. No torch."""

import posixpath
import re
from pathlib import Path

from data.images import is_image_file
from data.layout import ImageCounts, check_image_names, check_no_split, find_hints, find_ignored
from data.listing import Listing, list_folder, list_subfolders
from data.names import first_names
from data.samples import Samples, tabulate
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels
from runtime.errors import DataError
from runtime.files import existing_folder

_PROFILE = "<id>_<gender>_<race>_<age>/mask1.jpg"
_PROFILE_NAME = re.compile(r"[^_]+_(fe)?male_[^_]*_\d+", re.IGNORECASE)


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
    table = tabulate(rows, ("path", "person", "label", "mask", "gender", "age"))
    ignored = find_ignored(listing, used, folder).items()
    relative = {why: [posixpath.relpath(name, folder or ".") for name in names] for why, names in ignored}
    return Samples(root, table, MASKED_FACES, relative)


def fits_profiles(channel: Path) -> bool:
    """Return True if a folder in the channel, or one or two levels below, is named like a profile."""
    level = [channel]
    for _ in range(3):
        names = {folder: list_subfolders(folder) for folder in level}
        if any(_PROFILE_NAME.fullmatch(name) for found in names.values() for name in found):
            return True
        level = [folder / name for folder, found in names.items() for name in found]
    return False


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
