"""The data sets by name: which images there are, their labels, and which belong to training or validation.

Each is an ordinary `torch.utils.data.Dataset`, so `torch.utils.data.DataLoader` works. Training does not use it: it
decodes every image once (data/image_store.py) and takes batches from memory (data/loader.py). The original's names can
be imported from here: is_image_file, the augmentations, the label enums, and the three data sets.

For a new layout of files: a reader in data/readers.py and a class here, with the same name in `LAYOUTS`, `_datasets`
and `DATASETS` of config.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from augmentation import (
    AddGaussianNoise,
    BaseAugmentation,
    CustomAugmentation,
    StrongAugmentation,
    Triple,
    create_augmentation,
)
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Pixels, is_image_file, read_upright
from data.readers import READERS, find_dataset, read_apart
from data.samples import Samples
from data.several_labels import AUTO, apply_task, match_task
from data.split import split_samples
from data.validation import add_validation, check_leaks, read_validation
from labels import MASKED_FACES, AgeLabels, GenderLabels, LabelScheme, MaskLabels
from runtime.errors import ConfigError, unknown_name

__all__ = [
    "AddGaussianNoise",
    "AgeLabels",
    "BaseAugmentation",
    "CustomAugmentation",
    "GenderLabels",
    "ImageFolderDataset",
    "LabelTableDataset",
    "ManifestDataset",
    "MaskBaseDataset",
    "MaskLabels",
    "MaskSplitByProfileDataset",
    "SplitFolderDataset",
    "StrongAugmentation",
    "TestDataset",
    "create_augmentation",
    "create_dataset",
    "is_image_file",
    "pixel_statistics",
]


class MaskBaseDataset(Dataset[tuple[Tensor, int | NDArray[Any]]]):
    """Masked faces, split by image: a person can be in training and validation, which inflates every score."""

    scheme: LabelScheme = MASKED_FACES
    people_in_both_parts: ClassVar[bool] = True
    _split_by: ClassVar[str] = "path"
    _read = staticmethod(READERS["MaskBaseDataset"])

    def __init__(
        self,
        data_dir: str | Path,
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        val_ratio: float = 0.2,
        *,
        seed: int = 42,
        fold: tuple[int, int] | None = None,
        validation: Samples | None = None,
        allow_leaks: bool = False,
        labels_dir: Path | None = None,
        task: str = AUTO,
    ) -> None:
        """Read the table of images and split it; no image is opened.

        `mean` and `std` are stored, as in the original; the transform normalises with its own. With `fold` (k, n),
        validation is part k of n instead of `val_ratio`; with `validation`, it is these images, and all in `data_dir`
        are for training. With `labels_dir`, the labels are there. `task` is that of `apply_task`. Raises DataError if
        the folder does not fit the layout, if a part would be empty, and for a person or group in both parts of a given
        split unless `allow_leaks`.
        """
        self.mean, self.std = mean, std
        self.transform: BaseAugmentation | None = None
        samples = apply_task(self._read_channel(Path(data_dir), labels_dir), task)
        self.samples = add_validation(samples, match_task(validation, samples)) if validation else samples
        if not allow_leaks:
            check_leaks(self.samples)
        self.scheme = self.samples.scheme
        self.split: pd.Series = split_samples(self.samples, val_ratio, seed, fold=fold, by=self._split_by)

    def _read_channel(self, data_dir: Path, labels_dir: Path | None) -> Samples:
        """Read the images of the train channel, and their labels from a folder of their own if there is one."""
        if labels_dir is not None:
            return read_apart(type(self).__name__, data_dir, labels_dir)
        return self._read(data_dir, "SM_CHANNEL_TRAIN")

    @property
    def num_classes(self) -> int:
        return self.scheme.num_classes

    def set_transform(self, transform: BaseAugmentation) -> None:
        """Set the augmentation that `dataset[i]` applies."""
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples.table)

    def __getitem__(self, index: int) -> tuple[Tensor, int | NDArray[Any]]:
        """Return the augmented and normalised image (3, height, width) and its class; raises ImageError."""
        if self.transform is None:
            raise ConfigError("no transform was set, call set_transform(augmentation) before reading images")
        return self.transform(self.samples.paths[index]), self.samples.label_at(index)

    def read_image(self, index: int) -> Image.Image:
        """Return the whole image at its own size, upright and RGB; raises ImageError."""
        return read_upright(self.samples.paths[index])

    def split_dataset(self) -> tuple["SplitDataset", "SplitDataset"]:
        """Return (training, validation); validation has the same preparation and no random augmentation."""
        if self.transform is None:
            raise ConfigError("no transform was set, call set_transform(augmentation) before splitting")
        plain = BaseAugmentation.of(self.transform.preparation)
        return SplitDataset(self, self.indices("train"), self.transform), SplitDataset(self, self.indices("val"), plain)

    def indices(self, part: str) -> NDArray[np.int64]:
        """Return the indices of the images in `part`, "train" or "val"."""
        return np.flatnonzero(self.split == part)

    @staticmethod
    def encode_multi_class(mask_label: int, gender_label: int, age_label: int) -> int:
        """Return the class number, mask * 6 + gender * 3 + age."""
        return MASKED_FACES.encode(mask_label, gender_label, age_label)

    @staticmethod
    def decode_multi_class(multi_class_label: int) -> tuple[MaskLabels, GenderLabels, AgeLabels]:
        """Return mask, gender and age of a class number; the inverse of `encode_multi_class`."""
        mask, gender, age = MASKED_FACES.decode(multi_class_label)
        return MaskLabels(mask), GenderLabels(gender), AgeLabels(age)

    @staticmethod
    def denormalize_image(image: Any, mean: Triple, std: Triple) -> Pixels:
        """Convert a normalised image (height, width, 3), or a batch of them, back to uint8."""
        return (((np.asarray(image) * std) + mean) * 255.0).round().clip(0, 255).astype(np.uint8)


class MaskSplitByProfileDataset(MaskBaseDataset):
    """Masked faces, split by person, stratified by gender and age: no person is in both parts."""

    people_in_both_parts = False
    _split_by = "person"
    _read = staticmethod(READERS["MaskSplitByProfileDataset"])


class ImageFolderDataset(MaskBaseDataset):
    """Any images in one folder per class, split by image, stratified by class."""

    people_in_both_parts = False
    _split_by = "path"
    _read = staticmethod(READERS["ImageFolderDataset"])


class SplitFolderDataset(MaskBaseDataset):
    """Any images in train/CLASS and val/CLASS, with the split that these folders are."""

    people_in_both_parts = False
    _split_by = "path"
    _read = staticmethod(READERS["SplitFolderDataset"])


class LabelTableDataset(MaskBaseDataset):
    """Images with labels in labels.csv, .jsonl or .parquet, split by group, or as the table says."""

    people_in_both_parts = False
    _split_by = "person"
    _read = staticmethod(READERS["LabelTableDataset"])


class ManifestDataset(MaskBaseDataset):
    """Images with labels in a manifest of SageMaker Ground Truth, split by image, stratified by class."""

    people_in_both_parts = False
    _split_by = "path"
    _read = staticmethod(READERS["ManifestDataset"])


class SplitDataset(Dataset[tuple[Tensor, int | NDArray[Any]]]):
    """One part of a data set, with its own transform, so that validation is not augmented (in the original it was)."""

    def __init__(self, dataset: MaskBaseDataset, indices: NDArray[np.int64], transform: BaseAugmentation) -> None:
        self.dataset, self.indices, self.transform = dataset, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int | NDArray[Any]]:
        """Return the transformed image (3, height, width) and its class; raises ImageError."""
        samples, index = self.dataset.samples, int(self.indices[index])
        return self.transform(samples.paths[index]), samples.label_at(index)


class TestDataset(Dataset[Tensor]):
    """Images without labels, by path: cropped, resized and normalised."""

    __test__ = False  # not a test class for pytest, in spite of its name

    def __init__(
        self,
        img_paths: Sequence[str | Path],
        resize: tuple[int, int],
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
    ) -> None:
        """Prepare the files of `img_paths`; `resize` and `crop` are (height, width) in pixels."""
        self.img_paths = [Path(path) for path in img_paths]
        self.transform = BaseAugmentation(resize, mean, std, crop, fit)

    def __len__(self) -> int:
        return len(self.img_paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return the normalised image (3, height, width); raises ImageError if it cannot be used."""
        pixels = torch.from_numpy(self.transform.prepare(self.img_paths[index]).copy()).permute(2, 0, 1)
        return self.transform.normalize(pixels.unsqueeze(0)).squeeze(0)


_datasets: dict[str, type[MaskBaseDataset]] = {
    "MaskSplitByProfileDataset": MaskSplitByProfileDataset,
    "MaskBaseDataset": MaskBaseDataset,
    "ImageFolderDataset": ImageFolderDataset,
    "SplitFolderDataset": SplitFolderDataset,
    "LabelTableDataset": LabelTableDataset,
    "ManifestDataset": ManifestDataset,
}


def create_dataset(
    name: str,
    data_dir: str | Path,
    *,
    val_ratio: float = 0.2,
    seed: int = 42,
    fold: tuple[int, int] | None = None,
    validation_dir: str | Path | None = None,
    labels_dir: str | Path | None = None,
    allow_leaks: bool = False,
    task: str = AUTO,
) -> MaskBaseDataset:
    """Create a data set by name, or the one that the folder fits if the name is "auto".

    With `validation_dir`, which is read by the same name, its images are for validation and all others for training.
    With `labels_dir`, the labels of those in `data_dir` are there.

    Raises ConfigError for an unknown name, and DataError as the class does.
    """
    labels = Path(labels_dir) if labels_dir else None
    found = find_dataset(name, Path(data_dir), labels_dir=labels)
    if found not in _datasets:
        raise ConfigError(unknown_name("dataset", found, _datasets))
    return _datasets[found](
        data_dir,
        val_ratio=val_ratio,
        seed=seed,
        fold=fold,
        validation=read_validation(name, Path(validation_dir)) if validation_dir else None,
        allow_leaks=allow_leaks,
        labels_dir=labels,
        task=task,
    )


def pixel_statistics(pixels: Pixels, indices: NDArray[np.int64]) -> tuple[Triple, Triple]:
    """Return mean and standard deviation per channel, on the 0..1 scale, over all pixels of the images at `indices`.

    `pixels` are those of a store, (images, height, width, 3). The standard deviation is at least one grey level, 1/255,
    because images are divided by it.
    """
    total, squares = np.zeros(3), np.zeros(3)
    for index in indices:  # one image at a time: a float64 copy of the whole store would not fit in memory
        values = pixels[index].reshape(-1, 3) / 255.0
        total += values.mean(axis=0)
        squares += (values**2).mean(axis=0)
    mean = total / len(indices)
    std = np.sqrt(np.maximum(squares / len(indices) - mean**2, 255.0**-2))
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))
