"""The reader of split folders, train/CLASS and val/CLASS, as ImageNet and Kaggle have them. No torch."""

from pathlib import Path

from data.images import is_image_file
from data.layout import LOOSE_IMAGES, OTHER_PARTS, check_image_names, find_classes, find_ignored
from data.listing import Listing, list_folder, list_subfolders
from data.names import canonical_name, first_names
from data.samples import Samples, tabulate
from labels import LabelScheme
from runtime.errors import DataError
from runtime.files import existing_folder

_TRAIN = ("train",)
_VALIDATION = ("val", "valid", "validation")


def fits_split_folders(channel: Path) -> bool:
    """Return True if the channel contains train and val (or valid, validation), and both contain folders."""
    found = list_subfolders(channel)
    parts = [_named(found, names) for names in (_TRAIN, _VALIDATION)]
    return all(parts) and all(list_subfolders(channel / name) for part in parts for name in part)


def read_split_folders(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read train/CLASS and val/CLASS (or valid, validation); `part` of the table is "train" or "val".

    The classes are those of train. Other folders, such as test, are ignored and named. `variable` names the channel in
    messages. Raises DataError if a part is missing or there twice, and for classes that only validation has.
    """
    existing_folder(channel, variable, "train and val, each with one folder per class")
    folders = list_subfolders(channel)
    train, val = (_only(folders, names, channel, variable) for names in (_TRAIN, _VALIDATION))
    listings = {folder: list_folder(channel / folder) for folder in (train, val)}
    for listing in listings.values():
        check_image_names(listing)
    classes = find_classes(listings[train], f"{variable}/{train}")
    labels = {canonical_name(name): label for label, name in enumerate(classes)}
    rows, ignored = [], {OTHER_PARTS: [name for name in folders if name not in listings]}
    ignored[LOOSE_IMAGES] = sorted(path.name for path in channel.iterdir() if is_image_file(path.name))
    for folder, part in ((train, "train"), (val, "val")):
        images = [name for name in listings[folder].files if is_image_file(name) and "/" in name]
        _check_classes(images, labels, listings[folder], variable)
        for name in images:
            path = f"{folder}/{name}"
            rows.append((path, path, labels[canonical_name(name.partition("/")[0])], part))
        for why, names in find_ignored(listings[folder], images).items():
            ignored[why] = [*ignored.get(why, ()), *(f"{folder}/{name}" for name in names)]
    table = tabulate(rows, ("path", "person", "label", "part"))
    named = {why: names for why, names in ignored.items() if names}
    return Samples(channel, table, LabelScheme("folders", tuple(classes)), named)


def _named(folders: list[str], names: tuple[str, ...]) -> list[str]:
    """Return the folders with one of the names, in any case."""
    return [folder for folder in folders if folder.lower() in names]


def _only(folders: list[str], names: tuple[str, ...], channel: Path, variable: str) -> str:
    """Return the one folder with one of the names; raise DataError if there is none or more than one."""
    found = _named(folders, names)
    if len(found) != 1:
        raise DataError(
            f"{variable} contains {' and '.join(found) or 'no folder ' + ' or '.join(names)}, expected one folder for "
            f"this part; the layout is train/CLASS and val/CLASS: {channel}"
        )
    return found[0]


def _check_classes(images: list[str], labels: dict[str, int], listing: Listing, variable: str) -> None:
    """Raise DataError for a part without images in class folders, and for classes that train does not have."""
    if not images:
        raise DataError(f"no images in the class folders of this part of {variable}: {listing.root}")
    found = sorted({name.partition("/")[0] for name in images})
    if unknown := [name for name in found if canonical_name(name) not in labels]:
        raise DataError(
            f"validation has classes that training does not have: {first_names(unknown)}; rename or remove them, the "
            f"classes of training are {first_names(sorted(labels), 8)}: {listing.root}"
        )
