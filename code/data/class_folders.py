"""The reader of class folders: one folder per class, as torchvision's ImageFolder reads them. No torch."""

from pathlib import Path

from data.images import is_image_file
from data.layout import check_image_names, find_classes, find_ignored
from data.listing import list_folder
from data.samples import Samples, tabulate
from labels import LabelScheme
from runtime.files import existing_folder


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
    table = tabulate(rows, ("path", "person", "label"))
    return Samples(channel, table, LabelScheme("folders", tuple(classes)), find_ignored(listing, images))
