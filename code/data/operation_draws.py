"""What TrivialAugment and RandAugment draw for a batch: an operation for each image, and how strong it is.

The operations, their magnitudes and their distribution are those of torchvision's TrivialAugmentWide (Müller and
Hutter, 2021) and RandAugment (Cubuk et al., 2020). random_operations.py applies them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")
MOTIONS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_SIGNED = (*MOTIONS, *_BLENDS)


@dataclass(frozen=True)
class Space:
    """The largest magnitude of each operation, as in `_AUGMENTATION_SPACE` of a class of torchvision.

    `shear` is a slope, `rotate` in degrees, `blend` the change of brightness, colour, contrast and sharpness,
    `posterize` the number of bits that are dropped. `translate` is in pixels, or a share of the side if `relative`.
    """

    shear: float
    translate: float
    relative: bool
    rotate: float
    blend: float
    posterize: int

    def magnitudes(self, bins: int, height: int, width: int) -> dict[str, Tensor]:
        """Return the magnitudes (bins,) of each operation for images of this size, in the order of torchvision."""
        across, down = (self.translate * side if self.relative else self.translate for side in (width, height))
        dropped = torch.arange(bins) / ((bins - 1) / self.posterize)
        return {
            "Identity": torch.zeros(bins),
            **{name: torch.linspace(0.0, self.shear, bins) for name in ("ShearX", "ShearY")},
            "TranslateX": torch.linspace(0.0, across, bins),
            "TranslateY": torch.linspace(0.0, down, bins),
            "Rotate": torch.linspace(0.0, self.rotate, bins),
            **{name: torch.linspace(0.0, self.blend, bins) for name in _BLENDS},
            "Posterize": (8 - dropped).round(),
            "Solarize": torch.linspace(1.0, 0.0, bins),
            "AutoContrast": torch.zeros(bins),
            "Equalize": torch.zeros(bins),
        }


TRIVIAL = Space(shear=0.99, translate=32.0, relative=False, rotate=135.0, blend=0.99, posterize=6)
RAND = Space(shear=0.3, translate=150.0 / 331.0, relative=True, rotate=30.0, blend=0.9, posterize=4)
OPERATIONS = tuple(TRIVIAL.magnitudes(2, 1, 1))
"""The names of the operations; their numbers are their places here."""


def draw_operations(
    shape: Sequence[int], space: Space, bins: int, generator: torch.Generator, bin_number: int | None = None
) -> dict[str, Tensor]:
    """Draw one operation for each image of `shape` (batch, 3, height, width), all equally likely.

    The magnitude is one of `bins`, drawn for each image unless `bin_number` is given; its sign is positive or negative
    alike. Returns

    - operation (batch,): its number in OPERATIONS
    - strength (batch,): its magnitude with sign
    - motion (batch, 2, 3): from output to input coordinates, as `warp` takes it
    """
    count, _, height, width = shape
    operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
    if bin_number is None:
        number = torch.randint(bins, (count,), generator=generator)
    else:
        number = torch.full((count,), bin_number)
    sign = torch.where(torch.rand(count, generator=generator) <= 0.5, -1.0, 1.0)
    table = torch.stack(list(space.magnitudes(bins, height, width).values()))  # (operations, bins)
    signed = torch.tensor([name in _SIGNED for name in OPERATIONS])
    strength = table[operation, number] * torch.where(signed[operation], sign, 1.0)
    return {"operation": operation, "strength": strength, "motion": motions(operation, strength, height, width)}


def motions(operation: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """Return the motion of each image as a matrix (batch, 2, 3) from output to input coordinates, both -1..1.

    A shear leaves the left upper corner where it is; a translation is by whole pixels.
    """
    zero, one = torch.zeros(len(strength), dtype=torch.float64), torch.ones(len(strength), dtype=torch.float64)

    def only(name: str, values: Tensor) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), values.double(), zero)

    shear_x, shear_y = only("ShearX", strength), only("ShearY", strength)
    across, down = only("TranslateX", strength.trunc()), only("TranslateY", strength.trunc())
    angle = only("Rotate", strength) * math.pi / 180
    tall, wide = height / width, width / height
    cells = (
        *(angle.cos(), (shear_x - angle.sin()) * tall, shear_x * tall - 2 * across / width),
        *((shear_y + angle.sin()) * wide, angle.cos(), shear_y * wide - 2 * down / height),
    )
    return torch.stack([cell * one for cell in cells], dim=1).view(-1, 2, 3).float()
