"""What an image undergoes: a deterministic half, `prepare`, and a random half for whole batches, `augment`.

`prepare` (decode, crop, resize) is the same in training, validation, inference and serving, and its result is kept.
`augment` runs in training only, on uint8 batches on the device, and ends normalised. Each sample has its own
parameters, drawn by a generator on the CPU, so a batch is a function of the generator's seed, and CPU and GPU agree
(but for the pixels of Gaussian noise, which each device draws itself).

The original's names are BaseAugmentation, CustomAugmentation and AddGaussianNoise. Called with one image, an
augmentation is an ordinary transform: it returns the normalised tensor (3, height, width).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data.batch_transforms import (
    add_noise,
    affine_matrix,
    color_matrix,
    in_blocks,
    normalize,
    random_erase,
    recolor,
    warp,
)
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Pixels, Preparation, fit, prepare
from runtime.devices import constant
from runtime.errors import ConfigError, unknown_name

Triple = tuple[float, float, float]


class AddGaussianNoise:
    """Add independent Gaussian noise to every value of a normalised image or batch (the original's class)."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def __call__(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return tensor + torch.empty_like(tensor).normal_(self.mean, self.std, generator=generator)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class BaseAugmentation:
    """Resize and normalise, nothing random (the original's Resize, ToTensor, Normalize)."""

    default_crop: tuple[int, int] | None = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
    ) -> None:
        self.preparation = Preparation(resize, crop or self.default_crop, mean, std)

    @classmethod
    def of(cls, preparation: Preparation) -> "BaseAugmentation":
        """The augmentation without randomness that prepares and normalises in a given way."""
        return BaseAugmentation(preparation.size, preparation.mean, preparation.std, preparation.crop)

    def prepare(self, source: Path | bytes) -> Pixels:
        """Decode, crop and resize one image: (height, width, 3), uint8; raises ImageError."""
        return prepare(source, self.preparation)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 (batch, 3, height, width) -> float32 of the same shape, zero mean and unit spread on the data."""
        mean, std = self._statistics(pixels.device)
        return in_blocks(lambda part: normalize(part, mean, std), pixels)

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Change a uint8 batch (batch, 3, height, width) at random and normalise it; here only the latter."""
        return self.normalize(pixels)

    def __call__(self, source: Image.Image | Path | bytes) -> Tensor:
        """One image, as in the original: prepared, changed by torch's global randomness, normalised."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        pixels = fit(source, self.preparation) if isinstance(source, Image.Image) else self.prepare(source)
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
        return self.augment(batch, generator).squeeze(0)  # (3, height, width)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (3,) each."""
        mean, std = self.preparation.mean, self.preparation.std
        return constant(mean, device), constant(std, device)

    def _normalizing(self, matrix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A colour matrix (batch, 3, 3) and bias (batch, 3) on the 0..1 scale, with the normalisation of uint8."""
        mean, std = self._statistics(matrix.device)
        return matrix / (255 * std.view(3, 1)), (bias - mean) / std


class CustomAugmentation(BaseAugmentation):
    """Centre crop, resize, colour jitter, normalise, Gaussian noise (the original's class).

    The original's noise had std 1, as large as the signal; `noise=1.0` brings that back. Unlike in torchvision's
    ColorJitter the changes come in a fixed order, without rounding or clamping in between, and hue turns in YIQ
    instead of HSV.
    """

    default_crop: tuple[int, int] | None = (320, 256)

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        *,
        brightness: float = 0.1,
        contrast: float = 0.1,
        saturation: float = 0.1,
        hue: float = 0.1,
        noise: float = 0.1,
    ) -> None:
        super().__init__(resize, mean, std, crop)
        _check(brightness=(brightness, 1), contrast=(contrast, 1), saturation=(saturation, 1), hue=(hue, 0.5))
        _check(noise=(noise, 10))
        self.jitter = (brightness, contrast, saturation, hue)
        self.noise = AddGaussianNoise(0.0, noise)

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        matrix, bias = self._normalizing(*color_matrix(pixels, *self.jitter, generator=generator))
        images = in_blocks(recolor, pixels, matrix, bias)
        return add_noise(images, self.noise.std, generator) if self.noise.std else images


class StrongAugmentation(CustomAugmentation):
    """Flip, rotate, scale, shift, crop, colour jitter, noise, erasing: for training from scratch on few images.

    `rotate` in degrees, `scale` and `shift` as shares of the image; `area` is the share of it that may be cropped
    away (0.92 is what torchvision's RandomResizedCrop does by default, 0 is none); `erase` is the chance of a patch
    (Zhong et al., Random Erasing, 2017) of 2 to 20 percent of the image.
    """

    default_crop = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        *,
        flip: float = 0.5,
        rotate: float = 10.0,
        scale: float = 0.15,
        shift: float = 0.08,
        area: float = 0.0,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.02,
        noise: float = 0.0,
        erase: float = 0.25,
    ) -> None:
        super().__init__(
            resize,
            mean,
            std,
            crop,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
            noise=noise,
        )
        _check(flip=(flip, 1), rotate=(rotate, 180), scale=(scale, 0.9), shift=(shift, 1), area=(area, 0.99))
        _check(erase=(erase, 1))
        self.geometry = (flip, rotate, scale, shift, area)
        self.erase = erase

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        matrix, bias = self._normalizing(*color_matrix(pixels, *self.jitter, generator=generator))
        motion = affine_matrix(len(pixels), pixels.shape[2:], *self.geometry, generator=generator)
        images = in_blocks(lambda *parts: recolor(warp(*parts[:2]), *parts[2:]), pixels, motion, matrix, bias)
        if self.noise.std:
            add_noise(images, self.noise.std, generator)
        return random_erase(images, self.erase, generator)


def _check(**arguments: tuple[float, float]) -> None:
    """Refuse an augmentation argument that is not a number between 0 and its limit."""
    for name, (value, limit) in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
            raise ConfigError(f"--augmentation-args: {name}={value!r} is not a number between 0 and {limit:g}")


_augmentations: dict[str, Callable[..., BaseAugmentation]] = {
    "BaseAugmentation": BaseAugmentation,
    "CustomAugmentation": CustomAugmentation,
    "StrongAugmentation": StrongAugmentation,
}


def create_augmentation(
    name: str,
    resize: tuple[int, int],
    mean: Triple,
    std: Triple,
    crop: tuple[int, int] | None = None,
    /,
    **arguments: Any,
) -> BaseAugmentation:
    """Build an augmentation by name; raises ConfigError for an unknown name or argument."""
    if name not in _augmentations:
        raise ConfigError(unknown_name("augmentation", name, _augmentations))
    accepted = [
        parameter.name
        for parameter in inspect.signature(_augmentations[name]).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for argument in arguments:
        if argument not in accepted:
            refused = unknown_name(f"argument of {name}", argument, accepted, most=12)
            raise ConfigError(
                f"--augmentation-args: {refused if accepted else f'{name} takes no arguments, got {argument!r}'}"
            )
    return _augmentations[name](resize, mean, std, crop, **arguments)
