"""All layouts of a data set in one registry: how each is recognised, and its reader. No torch.

A new layout is a reader in a file of its own, an entry here, and a class of the same name in dataset.py and config.py.
They are here and not in dataset.py, so that submit.py can check a folder without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.class_folders import read_class_folders
from data.label_table import fits_label_table, read_label_table
from data.manifest import fits_manifest, read_manifest
from data.profiles import fits_profiles, read_profiles
from data.samples import Samples
from data.split_folders import fits_split_folders, read_split_folders
from runtime.errors import ConfigError
from runtime.files import existing_folder

AUTO = "auto"
_EXPECTED = "labels.csv, a *.manifest, one folder per class, train and val with such folders, or profile folders"


@dataclass(frozen=True)
class Layout:
    """A layout: the name of its data set in dataset.py, a title for messages, its reader, and how it is recognised.

    `read_apart` reads images whose labels are in a folder of their own, which is its last argument.
    """

    dataset: str
    title: str
    read: Callable[[Path, str], Samples]
    fits: Callable[[Path], bool]
    read_apart: Callable[[Path, str, Path], Samples] | None = None


# In the order in which `--dataset auto` tries them; the last one always fits, and says what is wrong with the folder.
_LAYOUTS = (
    Layout("LabelTableDataset", "label table", read_label_table, fits_label_table),
    Layout("ManifestDataset", "manifest", read_manifest, fits_manifest, read_manifest),
    Layout("MaskSplitByProfileDataset", "profile folders", read_profiles, fits_profiles),
    Layout("SplitFolderDataset", "split folders", read_split_folders, fits_split_folders),
    Layout("ImageFolderDataset", "class folders", read_class_folders, lambda channel: True),
    Layout("MaskBaseDataset", "profile folders", read_profiles, fits_profiles),
)
LAYOUTS = {layout.dataset: layout for layout in _LAYOUTS}
READERS = {name: layout.read for name, layout in LAYOUTS.items()}


def find_dataset(name: str, channel: Path, variable: str = "SM_CHANNEL_TRAIN", labels_dir: Path | None = None) -> str:
    """Return the name of a data set; that of the first layout that a folder fits if `name` is "auto".

    With `labels_dir` it is that of a layout that reads labels in a folder of their own. No image is opened. Raises
    DataError for a folder that is missing, empty or cannot be read, and ConfigError as `layout_apart` does.
    """
    if labels_dir is not None:
        return layout_apart(name).dataset
    if name != AUTO:
        return name
    existing_folder(channel, variable, _EXPECTED)
    return next(layout.dataset for layout in _LAYOUTS if layout.fits(channel))


def read_dataset(name: str, channel: Path, variable: str) -> Samples:
    """Read a folder by the name of a data set, "auto" by its layout; raises as `find_dataset` and the reader do."""
    return READERS[find_dataset(name, channel, variable)](channel, variable)


def layout_apart(name: str) -> Layout:
    """Return the layout of a data set whose labels are in a folder of their own; the first one if `name` is "auto".

    Raises ConfigError for the name of a data set that does not read such labels.
    """
    known = [layout for layout in _LAYOUTS if layout.read_apart]
    found = known[:1] if name == AUTO else [layout for layout in known if layout.dataset == name]
    if not found:
        expected = " or ".join(["auto", *(layout.dataset for layout in known)])
        raise ConfigError(f"--dataset {name} does not read labels in a folder of their own; pass {expected}")
    return found[0]


def read_apart(name: str, channel: Path, labels_dir: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read images whose labels are in a folder of their own; raises as `layout_apart` and the reader do."""
    read = layout_apart(name).read_apart
    assert read, "layout_apart has looked"
    return read(channel, variable, labels_dir)
