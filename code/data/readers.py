"""The readers of all layouts of a data set, by the name of their class in dataset.py. No torch.

They are here and not in dataset.py, so that submit.py can check a folder without torch.
"""

from collections.abc import Callable
from pathlib import Path

from data.class_folders import read_class_folders
from data.profiles import read_profiles
from data.samples import Samples

READERS: dict[str, Callable[[Path, str], Samples]] = {
    "MaskSplitByProfileDataset": read_profiles,
    "MaskBaseDataset": read_profiles,
    "ImageFolderDataset": read_class_folders,
}
