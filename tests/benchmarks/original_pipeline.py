"""The baseline: the pipeline that the original README describes, in its usual form.

PIL opens and decodes the whole image, torchvision's transforms work on one image at a time, and a DataLoader with
worker processes makes batches. In its favour, workers stay alive between epochs, which the original's did not.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from data.images import ORIGINAL_MEAN, ORIGINAL_STD


class AddGaussianNoise:
    """Add Gaussian noise to a normalised image (the original's class)."""

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def __call__(self, tensor: Tensor) -> Tensor:
        return tensor + torch.randn(tensor.size()) * self.std + self.mean


def base_transform(size: tuple[int, int]) -> transforms.Compose:
    """Create the original's BaseAugmentation for images of `size` (height, width)."""
    return transforms.Compose(
        [
            transforms.Resize(size, InterpolationMode.BILINEAR),
            transforms.ToTensor(),
            transforms.Normalize(ORIGINAL_MEAN, ORIGINAL_STD),
        ]
    )


def custom_transform(size: tuple[int, int]) -> transforms.Compose:
    """Create the original's CustomAugmentation for images of `size` (height, width)."""
    return transforms.Compose(
        [
            transforms.CenterCrop((320, 256)),
            transforms.Resize(size, InterpolationMode.BILINEAR),
            transforms.ColorJitter(0.1, 0.1, 0.1, 0.1),
            transforms.ToTensor(),
            transforms.Normalize(ORIGINAL_MEAN, ORIGINAL_STD),
            AddGaussianNoise(0.0, 0.1),
        ]
    )


class OriginalDataset(Dataset[tuple[Tensor, int]]):
    """Images that are decoded and transformed each time they are read."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: transforms.Compose) -> None:
        self.paths, self.labels, self.transform = list(paths), [int(label) for label in labels], transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(self.paths[index])), self.labels[index]


class OriginalLoader:
    """Batches (images, labels) on a device, epoch after epoch."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        transform: transforms.Compose,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self.device = device
        self.loader = DataLoader(
            OriginalDataset(paths, labels, transform),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loader:
            yield images.to(self.device), labels.to(self.device)
