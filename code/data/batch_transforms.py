"""Random transforms of whole batches on their device, as functions of tensors and of what batch_draws.py drew for them.

All colour changes are one matrix per image and all geometric changes one sampling grid, so each takes one pass over the
batch. On a CPU the batch is processed in blocks of eight images, which stay in the cache between passes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from data.batch_draws import BLOCK, LUMA
from runtime.devices import constant
from runtime.process import cpu_count

# Quantiles of the standard normal distribution, (65536,).
_NORMAL = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().numpy()


def in_blocks(change: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Return `change(*batches)`; on a CPU, computed in blocks of images into one channels-last tensor.

    The first of `batches` are the images (batch, 3, height, width), the others are parameters with the same first
    dimension.
    """
    pixels = batches[0]
    if pixels.device.type != "cpu" or len(pixels) <= BLOCK:
        return change(*batches)
    result = torch.empty(pixels.shape, memory_format=torch.channels_last)
    for part, *parts in zip(*(torch.split(batch, BLOCK) for batch in (result, *batches)), strict=True):
        part.copy_(change(*parts))
    return result


@functools.cache
def _fixed(create: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Return `create(*arguments)`, computed once: small tensors that no batch changes cost a launch per operation."""
    with torch.inference_mode(False):  # the first caller may be in inference mode, and a later one in training
        return create(*arguments)


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (pixels / 255 - mean) / std as float32, channels last, for uint8 (batch, 3, height, width)."""
    batch, channels, height, width = pixels.shape
    lines = pixels.permute(0, 2, 3, 1).reshape(batch, height, width * channels)  # long lines use the vector unit fully
    shift, scale = (_fixed(create, mean, std, width, pixels.device) for create in (_line_shift, _line_scale))
    normalized = torch.addcmul(shift, lines.float(), scale)
    return normalized.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _line_shift(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    return (-constant(mean, device) / constant(std, device)).repeat(width)


def _line_scale(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    return (1 / (255 * constant(std, device))).repeat(width)


def mean_gray(pixels: Tensor) -> Tensor:
    """Return the mean grey of uint8 images (batch, 3, height, width) on the 0..1 scale, (batch,)."""
    every_fourth = pixels[:, :, ::4, ::4].float()  # enough for a mean, and reads a sixteenth
    luma = constant(LUMA, pixels.device)
    return torch.einsum("bchw,c->b", every_fourth, luma) / (255 * every_fourth[0, 0].numel())


def recolor(pixels: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Apply a colour matrix (batch, 3, 3) and bias (batch, 3) to pixels (batch, 3, height, width) of any type.

    Four neighbouring pixels are multiplied at once, by a 12 x 12 block-diagonal matrix: a 3 x 3 matrix would leave most
    of the vector unit idle.
    """
    batch, _, height, width = pixels.shape
    group = math.gcd(height * width, 4)
    groups = pixels.permute(0, 2, 3, 1).reshape(batch, -1, 3 * group).float()
    spread = _fixed(_identity, group, pixels.device)[None, :, None, :, None] * matrix.transpose(1, 2)[:, None, :, None]
    colored = torch.baddbmm(bias.repeat(1, group).unsqueeze(1), groups, spread.reshape(batch, 3 * group, 3 * group))
    return colored.view(batch, height, width, 3).permute(0, 3, 1, 2)


def _identity(size: int, device: torch.device) -> Tensor:
    return torch.eye(size, device=device)


def add_noise(images: Tensor, std: float, seeds: Sequence[int]) -> Tensor:
    """Add Gaussian noise of mean 0 to every value of a float batch, in place.

    On a CPU, one thread per CPU draws it. Each block of eight images has its own generator, with one of the `seeds`, so
    the result does not depend on the number of threads. A GPU draws other noise, from the first seed.
    """
    if images.device.type != "cpu":
        draw = torch.Generator(images.device).manual_seed(seeds[0])
        return images.add_(torch.empty_like(images).normal_(0.0, std, generator=draw))
    values = images.permute(0, 2, 3, 1).numpy()
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    with ThreadPoolExecutor(min(len(blocks), cpu_count())) as pool:
        list(pool.map(_add_normal, blocks, seeds, repeat(_NORMAL * np.float32(std))))
    return images


def _add_normal(block: NDArray[np.float32], seed: int, quantiles: NDArray[np.float32]) -> None:
    """Add random picks from 65,536 quantiles: Gaussian with 16 bits, in half the time of torch's generator."""
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(1 << 64, size=-(-block.size // 4), dtype=np.uint64)
    block += quantiles.take(words.view(np.uint16)[: block.size], mode="clip").reshape(block.shape)


def warp(pixels: Tensor, matrix: Tensor, beyond: str = "reflection") -> Tensor:
    """Resample pixels (batch, channels, height, width) with a matrix (batch, 2, 3) from `affine_matrix` each.

    Bilinear, mirrored beyond the edges, or with `beyond` "zeros" 0 there; returns float32 on the scale of the input.
    """
    height, width = pixels.shape[2:]
    xs, ys = (_fixed(_pixel_centers, side, pixels.device) for side in (width, height))
    from_x = matrix[:, :, :1] * xs + matrix[:, :, 2:]  # (batch, 2, width)
    from_y = matrix[:, :, 1:2] * ys  # (batch, 2, height)
    grid = (from_x[:, :, None, :] + from_y[:, :, :, None]).permute(0, 2, 3, 1)  # (batch, height, width, 2)
    return functional.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode=beyond, align_corners=False)


def _pixel_centers(side: int, device: torch.device) -> Tensor:
    """Return where the pixels of a row or column are on the scale -1..1 of its edges, (side,)."""
    return 2 * (torch.arange(side, device=device) + 0.5) / side - 1


def erase(images: Tensor, patches: Tensor) -> Tensor:
    """Set a patch of each image of a normalised batch (batch, 3, height, width) to the mean colour, in place.

    `patches` (batch, 4) are those of `erased_patches`, on the device of the images.
    """
    # The channels come last in memory, and for a mask on a CPU they have to come last in the shape, too.
    images.movedim(1, 3).masked_fill_(inside(patches, *images.shape[2:]), 0.0)
    return images


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a mask (boxes, height, width, 1) of the pixels in boxes (boxes, 4): top, left, bottom, right in pixels."""
    top, left, bottom, right = (edge.view(-1, 1) for edge in boxes.unbind(1))
    rows, columns = (_fixed(_positions, side, boxes.device) for side in (height, width))
    down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(3)


def _positions(side: int, device: torch.device) -> Tensor:
    return torch.arange(side, device=device)
