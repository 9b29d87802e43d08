"""Mixup and CutMix: what is drawn for a batch on the CPU, and how its images and labels are mixed on the device."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.batch_transforms import inside


@dataclass(frozen=True)
class Mixer:
    """Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with a permutation of itself.

    `mixup` and `cutmix` are the alpha of a Beta(alpha, alpha) distribution, 0 for never; with both, one of the two is
    chosen per batch with equal probability. CutMix pastes a `box`, or a vertical `strip` of full height, so that the
    parts of a face stay in place.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    shape: str = "box"

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw how to mix images of `shape` (batch, 3, height, width), on the CPU; empty if nothing is mixed.

        - permutation (batch,): the image that is mixed into each
        - lam (2,): the weight of an image's own label, and that of the other. For CutMix, lam is the share of the area
          that is really left after the box was cut off at the edges.
        - pasted (1, 4): only for CutMix, the box: top, left, bottom, right in pixels
        """
        count, _, height, width = shape
        if not self.mixup and not self.cutmix:
            return {}
        cut = torch.rand((), generator=generator).item() < (0.5 if self.mixup else 1.0) if self.cutmix else False
        lam = _beta(self.cutmix if cut else self.mixup, generator)
        permutation = torch.randperm(count, generator=generator)
        if not cut:
            return {"permutation": permutation, "lam": torch.tensor((lam, 1 - lam))}
        top, left, bottom, right = _patch(height, width, 1 - lam, self.shape, generator)
        lam = 1 - (bottom - top) * (right - left) / (height * width)
        box = torch.tensor(((top, left, bottom, right),))
        return {"permutation": permutation, "lam": torch.tensor((lam, 1 - lam)), "pasted": box}

    def mix(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Return images (batch, 3, height, width) mixed as drawn; `draws` are on their device."""
        if "permutation" not in draws:
            return images
        others = images[draws["permutation"]]
        if "pasted" not in draws:
            return images.lerp(others, draws["lam"][1])
        height, width = images.shape[2:]
        # The channels come last in memory, and for `where` on a CPU they have to come last in the shape, too.
        mixed = torch.where(inside(draws["pasted"], height, width), others.movedim(1, 3), images.movedim(1, 3))
        return mixed.movedim(3, 1)

    def targets(self, labels: Tensor, draws: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor | None]]:
        """Return the labels (batch,) that mixed images have, each with the weight () of its loss; None stands for 1."""
        if "permutation" not in draws:
            return [(labels, None)]
        return list(zip((labels, labels[draws["permutation"]]), draws["lam"].unbind(), strict=True))


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw a number from Beta(alpha, alpha), as a ratio of two gamma variates.

    For an alpha far below 0.1 most of both are too small for float32. Then nearly all the weight is on one of the two.
    """
    first, second = torch._standard_gamma(torch.full((2,), alpha), generator=generator).tolist()
    if max(first, second) <= torch.finfo(torch.float32).tiny:  # torch returns no smaller ones
        return float(torch.randint(2, (), generator=generator))
    return float(first / (first + second))


def _patch(height: int, width: int, area: float, shape: str, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw a patch of about `area` (a share of the image) with a random centre: top, left, bottom, right in pixels."""
    center_y, center_x = torch.rand(2, generator=generator).tolist()
    if shape == "strip":
        left = round(center_x * (width - round(area * width)))
        return 0, left, height, left + round(area * width)
    tall, wide = height * math.sqrt(area), width * math.sqrt(area)
    top, bottom = (min(max(round(center_y * height + half), 0), height) for half in (-tall / 2, tall / 2))
    left, right = (min(max(round(center_x * width + half), 0), width) for half in (-wide / 2, wide / 2))
    return top, left, bottom, right
