"""Random changes to whole batches, as functions of tensors and a generator; each sample draws its own parameters.

The generator lives on the CPU and a handful of numbers per sample travel to the device, so every device makes the same
change. Colour is one matrix per sample and geometry one sampling grid, so each costs one pass over the batch. On a CPU
the batch goes through eight images at a time, which stay in the cache from one pass to the next.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from runtime.devices import constant, send
from runtime.process import cpu_count

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision convert to grey
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_BLOCK = 8  # images
_NORMAL = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().numpy()


def in_blocks(change: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """`change(*batches)`, on a CPU in blocks of samples, into one channels-last result (batch, 3, height, width)."""
    pixels = batches[0]
    if pixels.device.type != "cpu" or len(pixels) <= _BLOCK:
        return change(*batches)
    result = torch.empty(pixels.shape, memory_format=torch.channels_last)
    for part, *parts in zip(*(torch.split(batch, _BLOCK) for batch in (result, *batches)), strict=True):
        part.copy_(change(*parts))
    return result


def normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (batch, 3, height, width) -> float32 of the same shape, channels last: (pixels / 255 - mean) / std."""
    batch, channels, height, width = pixels.shape
    rows = pixels.permute(0, 2, 3, 1).reshape(batch, height, width * channels)  # long rows fill a vector unit
    normalized = torch.addcmul((-mean / std).repeat(width), rows.float(), (1 / (255 * std)).repeat(width))
    return normalized.view(batch, height, width, channels).permute(0, 3, 1, 2)


def recolor(pixels: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Apply a colour matrix (batch, 3, 3) and bias (batch, 3) to pixels (batch, 3, height, width) of any type.

    Four neighbouring pixels are multiplied at once, by a 12 x 12 matrix that has the small one along its diagonal: a
    3 x 3 matrix leaves most of a vector unit idle.
    """
    batch, _, height, width = pixels.shape
    group = math.gcd(height * width, 4)
    rows = pixels.permute(0, 2, 3, 1).reshape(batch, -1, 3 * group).float()
    spread = torch.eye(group, device=pixels.device)[None, :, None, :, None] * matrix.transpose(1, 2)[:, None, :, None]
    colored = torch.baddbmm(bias.repeat(1, group).unsqueeze(1), rows, spread.reshape(batch, 3 * group, 3 * group))
    return colored.view(batch, height, width, 3).permute(0, 3, 1, 2)


def add_noise(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to every value of a batch, in place.

    On a CPU as many threads as there are CPUs draw it, each block of samples with a generator of its own, so that the
    result does not depend on how many they are.
    """
    if images.device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        draw = torch.Generator(images.device).manual_seed(seed)
        return images.add_(torch.empty_like(images).normal_(0.0, std, generator=draw))
    rows = images.permute(0, 2, 3, 1).numpy()
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    seeds = torch.randint(2**62, (len(blocks),), generator=generator).tolist()
    with ThreadPoolExecutor(min(len(blocks), cpu_count())) as pool:
        list(pool.map(_add_normal, blocks, seeds, repeat(_NORMAL * np.float32(std))))
    return images


def _add_normal(block: NDArray[np.float32], seed: int, quantiles: NDArray[np.float32]) -> None:
    """Add random ones out of 65,536 quantiles: Gaussian to 16 bits, in half the time that torch's generator takes."""
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(1 << 64, size=-(-block.size // 4), dtype=np.uint64)
    block += quantiles.take(words.view(np.uint16)[: block.size], mode="clip").reshape(block.shape)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count,) numbers between low and high."""
    return torch.rand(count, generator=generator) * (high - low) + low


def color_matrix(
    pixels: Tensor, brightness: float, contrast: float, saturation: float, hue: float, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One random colour change per sample, as a matrix (batch, 3, 3) and a bias (batch, 3) on the 0..1 scale.

    All four of ColorJitter's changes are affine in the colour of a pixel, so together they are one matrix: brightness
    scales, contrast pulls to the mean grey of the image, saturation to the grey of the pixel, hue turns around grey.
    """
    count, device = len(pixels), pixels.device
    bright, contrasts, saturate = (
        uniform(count, 1 - spread, 1 + spread, generator).view(count, 1, 1)
        for spread in (brightness, contrast, saturation)
    )
    turn = uniform(count, -hue, hue, generator) * 2 * math.pi
    saturation_matrix = saturate * torch.eye(3) + (1 - saturate) * torch.tensor(_LUMA).expand(3, 3)
    matrix = _hue_matrix(turn) @ saturation_matrix * (bright * contrasts)
    pull = (1 - contrasts.view(count)) * bright.view(count)
    every_fourth = pixels[:, :, ::4, ::4].float()  # enough for a mean, at a sixteenth of the reads
    luma = constant(_LUMA, device)
    mean_gray = torch.einsum("bchw,c->b", every_fourth, luma) / (255 * every_fourth[0, 0].numel())
    bias = send(pull, device) * mean_gray
    return send(matrix, device), bias.view(count, 1).expand(count, 3)


def _hue_matrix(turn: Tensor) -> Tensor:
    """Turn colours around the grey axis by an angle in radians each (batch,) -> (batch, 3, 3); grey stays grey."""
    to_yiq = torch.tensor(_YIQ)
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    cos, sin = turn.cos(), turn.sin()
    rotation = torch.stack((one, zero, zero, zero, cos, sin, zero, -sin, cos), dim=1).view(-1, 3, 3)
    turned: Tensor = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return turned


def affine_matrix(
    count: int,
    size: Sequence[int],
    flip: float,
    rotate: float,
    scale: float,
    shift: float,
    crop: float,
    *,
    generator: torch.Generator,
) -> Tensor:
    """One random flip, rotation, zoom, shift and crop per sample: (count, 2, 3), from output to input places in -1..1.

    What is rotated, zoomed and shifted is then cropped to a random part of at least `1 - crop` of its area, whose ratio
    of width to height is 3/4 to 4/3 of the image's own, and brought to full size (torchvision's RandomResizedCrop,
    but a part that would stick out is narrowed instead of drawn again).
    """
    height, width = size
    mirror = 1 - 2 * (torch.rand(count, generator=generator) < flip).float()
    angle = uniform(count, -rotate, rotate, generator) * math.pi / 180
    zoom = 1 / uniform(count, 1 - scale, 1 + scale, generator)
    across, down = uniform(count, -2 * shift, 2 * shift, generator), uniform(count, -2 * shift, 2 * shift, generator)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = (
        cos,
        -sin * height / width,
        across,
        sin * width / height,
        cos,
        down,
        *(torch.zeros(2, count)),
        torch.ones(count),
    )
    motion = torch.stack(rows, dim=1).view(count, 3, 3)
    return (motion @ _random_crop(count, crop, mirror, generator))[:, :2]


def _random_crop(count: int, crop: float, mirror: Tensor, generator: torch.Generator) -> Tensor:
    """From places of the output to places of the part that fills it, mirrored or not: (count, 3, 3)."""
    area = uniform(count, 1 - crop, 1.0, generator)
    spread = math.log(4 / 3) if crop else 0.0
    ratio = uniform(count, -spread, spread, generator).exp()
    wide, tall = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = (uniform(count, -1.0, 1.0, generator) * (1 - side) for side in (wide, tall))
    none, one = torch.zeros(count), torch.ones(count)
    return torch.stack((wide * mirror, none, left, none, tall, top, none, none, one), dim=1).view(count, 3, 3)


def warp(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Resample a batch along an affine matrix each, bilinear, mirrored at the edges; values stay within 0..255."""
    height, width = pixels.shape[2:]
    matrix = send(matrix, pixels.device)
    columns, rows = (2 * (torch.arange(side, device=pixels.device) + 0.5) / side - 1 for side in (width, height))
    across = matrix[:, :, :1] * columns + matrix[:, :, 2:]  # (batch, 2, width)
    down = matrix[:, :, 1:2] * rows  # (batch, 2, height)
    grid = (across[:, :, None, :] + down[:, :, :, None]).permute(0, 2, 3, 1)  # (batch, height, width, 2)
    return functional.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def random_erase(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Blank a patch of 2 to 20 percent of some images of a normalised batch with the mean colour, in place."""
    count, _, height, width = images.shape
    hit = torch.rand(count, generator=generator) < chance
    area = uniform(count, 0.02, 0.2, generator)
    ratio = uniform(count, math.log(0.3), math.log(3.3), generator).exp()  # of height to width
    tall, wide = ((area * ratio).sqrt() * height).clamp(max=height), ((area / ratio).sqrt() * width).clamp(max=width)
    top, left = (
        uniform(count, 0.0, 1.0, generator) * (height - tall),
        uniform(count, 0.0, 1.0, generator) * (width - wide),
    )
    patches = torch.stack((top, left, top + tall, left + wide), dim=1).round().long()
    for index in hit.nonzero()[:, 0].tolist():
        top_row, left_column, bottom_row, right_column = patches[index].tolist()
        images[index, :, top_row:bottom_row, left_column:right_column] = 0
    return images


@dataclass(frozen=True)
class Mixer:
    """Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with itself in another order.

    Each alpha is that of a Beta(alpha, alpha) distribution, 0 for never; with both, a coin decides per batch. CutMix
    pastes a box, or a vertical strip of full height: half a face keeps mouth and eyes in place.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    shape: str = "box"

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Returns the mixed images, who the partner of each is (batch,), and the share that is its own.

        The loss is `share * loss(labels) + (1 - share) * loss(labels[partners])`.
        """
        count, _, height, width = images.shape
        if not self.mixup and not self.cutmix:
            return images, torch.arange(count, device=images.device), 1.0
        cut = torch.rand((), generator=generator).item() < (0.5 if self.mixup else 1.0) if self.cutmix else False
        share = _beta(self.cutmix if cut else self.mixup, generator)
        partners = send(torch.randperm(count, generator=generator), images.device)
        if not cut:
            return images.lerp(images[partners], 1 - share), partners, share
        top, left, bottom, right = _patch(height, width, 1 - share, self.shape, generator)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
        return mixed, partners, 1 - (bottom - top) * (right - left) / (height * width)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A number from Beta(alpha, alpha), as the ratio of two gamma variates."""
    first, second = torch._standard_gamma(torch.full((2,), alpha), generator=generator).tolist()
    return float(first / (first + second)) if first + second > 0 else 0.5


def _patch(height: int, width: int, area: float, shape: str, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A patch of about `area` of the image around a random centre, cut off at the edges: top, left, bottom, right."""
    down, across = torch.rand(2, generator=generator).tolist()
    if shape == "strip":
        left = round(across * (width - round(area * width)))
        return 0, left, height, left + round(area * width)
    tall, wide = height * math.sqrt(area), width * math.sqrt(area)
    top, bottom = (min(max(round(down * height + half), 0), height) for half in (-tall / 2, tall / 2))
    left, right = (min(max(round(across * width + half), 0), width) for half in (-wide / 2, wide / 2))
    return top, left, bottom, right
