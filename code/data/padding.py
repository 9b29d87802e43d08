"""The padding of `--fit pad` in whole batches: which part of each image is shown, found in the pixels themselves.

Nothing has to be stored with an image for that. A photograph whose own edges have exactly the colour of the padding
counts as padded there, which changes nothing that can be seen.
"""

import torch
from torch import Tensor

from data.batch_draws import LUMA
from data.batch_transforms import inside
from runtime.devices import constant


def find_shown(pixels: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """Return 1 where uint8 images (batch, 3, height, width) are shown, else 0, as uint8 (batch, 1, height, width).

    Not shown are the rows and columns at the edges that have the colour `fill` throughout.
    """
    height, width = pixels.shape[2:]
    color = constant(tuple(map(float, fill)), pixels.device).to(torch.uint8).view(1, 3, 1, 1)
    differs = (pixels != color).any(1)
    (top, bottom), (left, right) = _ends(differs.any(2)), _ends(differs.any(1))
    shown = inside(torch.stack((top, left, bottom, right), dim=1), height, width)
    return shown.permute(0, 3, 1, 2).to(torch.uint8)


def _ends(holds: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the first True of each line (batch, side) is, and where the last one ends; (side, 0) without any."""
    positions = torch.arange(holds.shape[1], device=holds.device)
    first = torch.where(holds, positions, holds.shape[1]).amin(1)
    return first, torch.where(holds, positions + 1, 0).amax(1)


def shown_gray(pixels: Tensor, shown: Tensor) -> Tensor:
    """Return the mean grey of what is shown of uint8 images, on the 0..1 scale, (batch,); see `mean_gray`."""
    pixels, shown = pixels[:, :, ::4, ::4], shown[:, :, ::4, ::4]
    gray = torch.einsum("bchw,c->b", (pixels * shown).float(), constant(LUMA, pixels.device))
    return gray / (255 * shown.sum((1, 2, 3)).clamp(min=1))


def stack(pixels: Tensor, shown: Tensor) -> Tensor:
    """Return images that are black where nothing is shown, with `shown` as their fourth channel, uint8."""
    return torch.cat((pixels * shown, shown), 1)
