"""Augmentations by name; each has a deterministic half, `prepare`, and a random half for whole batches, `augment`.

`prepare` (decode, crop, fit) is the same in training, validation, inference and serving, and runs once per image.
`augment` runs in training only, on uint8 batches on the device, and normalises. What is random about it is drawn before
by `draw`, per image, by a generator on the CPU. So a batch is a function of the generator's seed, on a CPU and a GPU
alike (except for Gaussian noise, which each device draws itself).

With `--fit pad`, an augmented image has the mean colour, 0, where nothing is shown: in the padding, and where a motion
moves in what lies beyond the edges. With another fit that is mirrored, or black with TrivialAugment and RandAugment
(data/operation_augmentations.py). Colour, contrast and noise change what is shown alone. Mixup and CutMix
(data/mixing.py) mix whole images, with their padding.

The original's names are BaseAugmentation, CustomAugmentation and AddGaussianNoise. Called with one image, an
augmentation is an ordinary transform and returns the normalised tensor (3, height, width).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from data.base_augmentation import BaseAugmentation, Triple
from data.batch_draws import Draws, affine_matrix, color_change, erased_patches, noise_seeds
from data.batch_transforms import add_noise, erase, in_blocks, mean_gray, recolor, warp
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.operation_augmentations import RandAugment, TrivialAugment
from data.padding import find_shown, shown_gray, stack
from runtime.devices import constant
from runtime.errors import ConfigError, unknown_name

__all__ = [
    "AddGaussianNoise",
    "BaseAugmentation",
    "CustomAugmentation",
    "RandAugment",
    "StrongAugmentation",
    "Triple",
    "TrivialAugment",
    "create_augmentation",
]


class AddGaussianNoise:
    """Add independent Gaussian noise to every value of a normalised image or batch (the original's class)."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def __call__(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return tensor + torch.empty_like(tensor).normal_(self.mean, self.std, generator=generator)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class CustomAugmentation(BaseAugmentation):
    """Centre crop, resize, colour jitter, normalise, Gaussian noise (the original's class).

    The original's noise had std 1, as large as the signal; `noise=1.0` restores it. Unlike torchvision's ColorJitter,
    the changes are applied in a fixed order, without rounding or clamping in between, and hue is rotated in YIQ instead
    of HSV.
    """

    default_crop: tuple[int, int] | None = (320, 256)

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
        *,
        brightness: float = 0.1,
        contrast: float = 0.1,
        saturation: float = 0.1,
        hue: float = 0.1,
        noise: float = 0.1,
    ) -> None:
        super().__init__(resize, mean, std, crop, fit)
        _check(brightness=(brightness, 1), contrast=(contrast, 1), saturation=(saturation, 1), hue=(hue, 0.5))
        _check(noise=(noise, 10))
        self.jitter = (brightness, contrast, saturation, hue)
        self.noise = AddGaussianNoise(0.0, noise)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Draws:
        tensors = self._draw_colors(shape[0], generator)
        return Draws(tensors, noise_seeds(shape[0], generator) if self.noise.std else ())

    def augment(self, pixels: Tensor, draws: Draws) -> Tensor:
        shown = find_shown(pixels, self.preparation.fill) if self.is_padded else None
        images = in_blocks(recolor, pixels, draws.tensors["color"], self._bias(pixels, shown, draws))
        images = add_noise(images, self.noise.std, draws.noise_seeds) if self.noise.std else images
        return images if shown is None else images * shown

    def _draw_colors(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a change of colour for each of `count` images: a matrix that also normalises uint8, and added grey."""
        matrix, gray = color_change(count, *self.jitter, generator=generator)
        return {"color": matrix / (255 * torch.tensor(self.preparation.std).view(3, 1)), "gray": gray}

    def _bias(self, pixels: Tensor, shown: Tensor | None, draws: Draws) -> Tensor:
        """Return what a change of colour adds to the normalised images, (batch, 3)."""
        gray = mean_gray(pixels) if shown is None else shown_gray(pixels, shown)
        mean, std = (constant(values, pixels.device) for values in (self.preparation.mean, self.preparation.std))
        return ((draws.tensors["gray"] * gray).unsqueeze(1) - mean) / std


class StrongAugmentation(CustomAugmentation):
    """Flip, rotation, scale, shift, crop, colour jitter, noise and erasing, to train from scratch on few images.

    `flip` and `erase` are probabilities, `rotate` is in degrees, `scale` and `shift` are relative to the image. `area`
    is the largest share of the image that a crop removes (0 is none, 0.92 is the default of torchvision's
    RandomResizedCrop). `erase` blanks a patch of 2 to 20 percent (Zhong et al., Random Erasing, 2017).
    """

    default_crop = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
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
            fit,
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

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Draws:
        count, _, *size = shape
        tensors = self._draw_colors(count, generator)
        tensors["motion"] = affine_matrix(count, size, *self.geometry, generator=generator)
        seeds = noise_seeds(count, generator) if self.noise.std else ()
        tensors["erased"] = erased_patches(count, size, self.erase, generator)
        return Draws(tensors, seeds)

    def augment(self, pixels: Tensor, draws: Draws) -> Tensor:
        tensors = draws.tensors
        shown = find_shown(pixels, self.preparation.fill) if self.is_padded else None
        changes = tensors["motion"], tensors["color"], self._bias(pixels, shown, draws)
        if shown is None:
            images, moved = in_blocks(_warp_and_recolor, pixels, *changes), None
        else:
            images, moved = torch.split(in_blocks(_warp_and_recolor_shown, stack(pixels, shown), *changes), [3, 1], 1)
        if self.noise.std:
            add_noise(images, self.noise.std, draws.noise_seeds)
        return erase(images if moved is None else images * (moved > 0), tensors["erased"])


def _warp_and_recolor(pixels: Tensor, geometry: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    return recolor(warp(pixels, geometry), matrix, bias)


def _warp_and_recolor_shown(stacked: Tensor, geometry: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Move and recolour images that are stacked with the share of each pixel that is shown; the rest becomes 0."""
    colors, shown = torch.split(warp(stacked, geometry, beyond="zeros"), [3, 1], 1)
    images = recolor(colors, matrix, torch.zeros_like(bias)) + shown * bias[:, :, None, None]
    return torch.cat((images, shown), 1)


def _check(**arguments: tuple[float, float]) -> None:
    """Raise ConfigError for an argument, given as (value, limit), that is not a number between 0 and its limit."""
    for name, (value, limit) in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
            raise ConfigError(f"--augmentation-args: {name}={value!r} is not a number between 0 and {limit:g}")


_augmentations: dict[str, Callable[..., BaseAugmentation]] = {
    "BaseAugmentation": BaseAugmentation,
    "CustomAugmentation": CustomAugmentation,
    "StrongAugmentation": StrongAugmentation,
    "TrivialAugment": TrivialAugment,
    "RandAugment": RandAugment,
}


def create_augmentation(
    name: str,
    resize: tuple[int, int],
    mean: Triple,
    std: Triple,
    crop: tuple[int, int] | None = None,
    fit: str = "stretch",
    /,
    **arguments: Any,
) -> BaseAugmentation:
    """Create an augmentation by name; raises ConfigError for an unknown name or argument, or a value out of range."""
    if name not in _augmentations:
        raise ConfigError(unknown_name("augmentation", name, _augmentations))
    accepted = [
        parameter.name
        for parameter in inspect.signature(_augmentations[name]).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for argument in arguments:
        if argument not in accepted:
            problem = unknown_name(f"argument of {name}", argument, accepted, most=12)
            raise ConfigError(
                f"--augmentation-args: {problem if accepted else f'{name} takes no arguments, got {argument!r}'}"
            )
    return _augmentations[name](resize, mean, std, crop, fit, **arguments)
