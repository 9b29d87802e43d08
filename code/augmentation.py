"""What a picture undergoes: a deterministic half, `prepare`, and a random half for whole batches, `augment`.

`prepare` (decode, crop, resize) is the same in training, validation, inference and serving, and its result is kept.
`augment` runs in training only, on uint8 batches on the device, and ends normalised. Each sample has its own
parameters, drawn by a generator on the CPU, so a batch is a function of the generator's seed, and CPU and GPU agree
(but for the pixels of Gaussian noise, which each device draws itself).

The seed's names are BaseAugmentation, CustomAugmentation and AddGaussianNoise. Called with one picture, an
augmentation is an ordinary transform: it returns the normalised tensor (3, height, width).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from errors import ConfigError, unknown_name
from images import SEED_MEAN, SEED_STD, Pixels, Preparation, fit, prepare
from transforms import affine_matrix, color_matrix, random_erase, warp

Triple = tuple[float, float, float]


class AddGaussianNoise:
    """Add independent Gaussian noise to every value of a normalised picture or batch (the seed's class)."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def __call__(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)
        return tensor + noise * self.std + self.mean

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class BaseAugmentation:
    """Resize and normalise, nothing random (the seed's Resize, ToTensor, Normalize)."""

    default_crop: tuple[int, int] | None = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = SEED_MEAN,
        std: Triple = SEED_STD,
        crop: tuple[int, int] | None = None,
    ) -> None:
        self.preparation = Preparation(resize, crop or self.default_crop, mean, std)

    @classmethod
    def of(cls, preparation: Preparation) -> "BaseAugmentation":
        """The augmentation without randomness that prepares and normalises in a given way."""
        return BaseAugmentation(preparation.size, preparation.mean, preparation.std, preparation.crop)

    def prepare(self, source: Path | bytes) -> Pixels:
        """Decode, crop and resize one picture: (height, width, 3), uint8; raises ImageError."""
        return prepare(source, self.preparation)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 (batch, 3, height, width) -> float32 of the same shape, zero mean and unit spread on the data."""
        mean, std = self._statistics(pixels.device)
        return torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Change a uint8 batch (batch, 3, height, width) at random and normalise it; here only the latter."""
        return self.normalize(pixels)

    def __call__(self, source: Image.Image | Path | bytes) -> Tensor:
        """One picture, as in the seed: prepared, changed by torch's global randomness, normalised."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        pixels = fit(source, self.preparation) if isinstance(source, Image.Image) else self.prepare(source)
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
        return self.augment(batch, generator).squeeze(0)  # (3, height, width)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = self.preparation.mean, self.preparation.std
        mean_tensor, std_tensor = (torch.tensor(part, dtype=torch.float32, device=device) for part in (mean, std))
        return mean_tensor.view(3, 1, 1), std_tensor.view(3, 1, 1)

    def _recolor(self, pixels: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """Apply a colour matrix (batch, 3, 3) and bias (batch, 3) on the 0..1 scale, and normalise, in one pass."""
        mean, std = (part.view(3) for part in self._statistics(pixels.device))
        matrix = matrix / (255 * std.view(3, 1))
        bias = (bias - mean) / std
        batch, _, height, width = pixels.shape
        rows = pixels.permute(0, 2, 3, 1).reshape(batch, height * width, 3).float()
        colored = torch.baddbmm(bias.unsqueeze(1), rows, matrix.transpose(1, 2))
        return colored.view(batch, height, width, 3).permute(0, 3, 1, 2)  # channels-last in memory, no copy


class CustomAugmentation(BaseAugmentation):
    """Centre crop, resize, colour jitter, normalise, Gaussian noise (the seed's class).

    The seed's noise had std 1, as large as the signal; `noise=1.0` brings that back. Unlike torchvision's ColorJitter
    the changes come in a fixed order, without rounding or clamping in between, and hue turns in YIQ instead of HSV.
    """

    default_crop: tuple[int, int] | None = (320, 256)

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = SEED_MEAN,
        std: Triple = SEED_STD,
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
        matrix, bias = color_matrix(pixels, *self.jitter, generator=generator)
        images = self._recolor(pixels, matrix, bias)
        return self._add_noise(images, generator)

    def _add_noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.noise.std == 0:
            return images
        seed = int(torch.randint(2**62, (), generator=generator).item())
        return self.noise(images, torch.Generator(images.device).manual_seed(seed))


class StrongAugmentation(CustomAugmentation):
    """Flip, rotate, scale, shift, colour jitter, noise, random erasing: for training from scratch on few pictures.

    `rotate` in degrees, `scale` and `shift` as shares of the picture; `erase` is the chance of a patch (Zhong et al.,
    Random Erasing, 2017) of 2 to 20 percent of the picture.
    """

    default_crop = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = SEED_MEAN,
        std: Triple = SEED_STD,
        crop: tuple[int, int] | None = None,
        *,
        flip: float = 0.5,
        rotate: float = 10.0,
        scale: float = 0.15,
        shift: float = 0.08,
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
        _check(flip=(flip, 1), rotate=(rotate, 180), scale=(scale, 0.9), shift=(shift, 1), erase=(erase, 1))
        self.geometry = (flip, rotate, scale, shift)
        self.erase = erase

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        matrix, bias = color_matrix(pixels, *self.jitter, generator=generator)
        moved = warp(pixels, affine_matrix(len(pixels), pixels.shape[2:], *self.geometry, generator=generator))
        images = self._add_noise(self._recolor(moved, matrix, bias), generator)
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
