"""TrivialAugment and RandAugment as augmentations; random_operations.py has their operations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data.base_augmentation import BaseAugmentation, Triple
from data.batch_draws import Draws
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.operation_draws import RAND, TRIVIAL, Space, draw_operations
from data.padding import find_shown
from data.random_operations import apply_operations
from runtime.errors import ConfigError

_MOST_BINS, _MOST_OPERATIONS = 1000, 14


class TrivialAugment(BaseAugmentation):
    """One random operation of a random magnitude for each image: torchvision's TrivialAugmentWide, bilinear.

    `num_magnitude_bins` is the number of magnitudes between none and the largest. Source: Müller and Hutter,
    TrivialAugment, 2021.
    """

    _space: Space = TRIVIAL
    _operations: int = 1
    _bin: int | None = None  # the number of the magnitude; None to draw it

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
        *,
        num_magnitude_bins: int = 31,
    ) -> None:
        super().__init__(resize, mean, std, crop, fit)
        _check("num_magnitude_bins", num_magnitude_bins, 2, _MOST_BINS)
        self._bins = num_magnitude_bins

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Draws:
        drawn = [draw_operations(shape, self._space, self._bins, generator, self._bin) for _ in range(self._operations)]
        return Draws({f"{name} {number}": each[name] for number, each in enumerate(drawn) for name in each})

    def augment(self, pixels: Tensor, draws: Draws) -> Tensor:
        shown = find_shown(pixels, self.preparation.fill) if self.is_padded else None
        for number in range(self._operations):
            drawn = {name: draws.tensors[f"{name} {number}"] for name in ("operation", "strength", "motion")}
            pixels, shown = apply_operations(pixels, drawn, shown, self.preparation.fill)
        images = self.normalize(pixels)
        return images if shown is None else images * shown


class RandAugment(TrivialAugment):
    """Random operations of one magnitude, one after the other: torchvision's RandAugment, bilinear.

    `num_ops` is how many, `magnitude` the number of one of the `num_magnitude_bins` magnitudes, from 0. Source: Cubuk
    et al., RandAugment, 2020.
    """

    _space = RAND

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
        *,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
    ) -> None:
        super().__init__(resize, mean, std, crop, fit, num_magnitude_bins=num_magnitude_bins)
        _check("num_ops", num_ops, 0, _MOST_OPERATIONS)
        _check("magnitude", magnitude, 0, num_magnitude_bins - 1)
        self._operations, self._bin = num_ops, magnitude


def _check(name: str, value: int, least: int, most: int) -> None:
    """Raise ConfigError for an argument that is not a whole number in its range."""
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"--augmentation-args: {name}={value!r} is not a whole number from {least} to {most}")
