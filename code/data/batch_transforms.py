"""Random transforms of whole batches, as functions of tensors and a generator; parameters are drawn per image.

The generator is on the CPU and only a few numbers per image go to the device, so every device applies the same
transforms. All colour changes are one matrix per image and all geometric changes one sampling grid, so each takes one
pass over the batch. On a CPU the batch is processed in blocks of eight images, which stay in the cache between passes.
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

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; Pillow and torchvision use it for grey
# NTSC's YIQ: luma, and two axes of colour around grey.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_BLOCK = 8  # images
# Quantiles of the standard normal distribution, (65536,).
_NORMAL = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().numpy()


def in_blocks(change: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Return `change(*batches)`; on a CPU, computed in blocks of images into one channels-last tensor.

    The first of `batches` are the images (batch, 3, height, width), the others are parameters with the same first
    dimension.
    """
    pixels = batches[0]
    if pixels.device.type != "cpu" or len(pixels) <= _BLOCK:
        return change(*batches)
    result = torch.empty(pixels.shape, memory_format=torch.channels_last)
    for part, *parts in zip(*(torch.split(batch, _BLOCK) for batch in (result, *batches)), strict=True):
        part.copy_(change(*parts))
    return result


def normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (pixels / 255 - mean) / std as float32, channels last, for uint8 (batch, 3, height, width)."""
    batch, channels, height, width = pixels.shape
    lines = pixels.permute(0, 2, 3, 1).reshape(batch, height, width * channels)  # long lines use the vector unit fully
    normalized = torch.addcmul((-mean / std).repeat(width), lines.float(), (1 / (255 * std)).repeat(width))
    return normalized.view(batch, height, width, channels).permute(0, 3, 1, 2)


def recolor(pixels: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Apply a colour matrix (batch, 3, 3) and bias (batch, 3) to pixels (batch, 3, height, width) of any type.

    Four neighbouring pixels are multiplied at once, by a 12 x 12 block-diagonal matrix: a 3 x 3 matrix would leave most
    of the vector unit idle.
    """
    batch, _, height, width = pixels.shape
    group = math.gcd(height * width, 4)
    groups = pixels.permute(0, 2, 3, 1).reshape(batch, -1, 3 * group).float()
    spread = torch.eye(group, device=pixels.device)[None, :, None, :, None] * matrix.transpose(1, 2)[:, None, :, None]
    colored = torch.baddbmm(bias.repeat(1, group).unsqueeze(1), groups, spread.reshape(batch, 3 * group, 3 * group))
    return colored.view(batch, height, width, 3).permute(0, 3, 1, 2)


def add_noise(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of mean 0 to every value of a float batch, in place.

    On a CPU, one thread per CPU draws it. Each block of images has its own generator, so the result does not depend on
    the number of threads. A GPU draws other noise from the same seed.
    """
    if images.device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        draw = torch.Generator(images.device).manual_seed(seed)
        return images.add_(torch.empty_like(images).normal_(0.0, std, generator=draw))
    values = images.permute(0, 2, 3, 1).numpy()
    blocks = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
    seeds = torch.randint(2**62, (len(blocks),), generator=generator).tolist()
    with ThreadPoolExecutor(min(len(blocks), cpu_count())) as pool:
        list(pool.map(_add_normal, blocks, seeds, repeat(_NORMAL * np.float32(std))))
    return images


def _add_normal(block: NDArray[np.float32], seed: int, quantiles: NDArray[np.float32]) -> None:
    """Add random picks from 65,536 quantiles: Gaussian with 16 bits, in half the time of torch's generator."""
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(1 << 64, size=-(-block.size // 4), dtype=np.uint64)
    block += quantiles.take(words.view(np.uint16)[: block.size], mode="clip").reshape(block.shape)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw (count,) numbers between low and high."""
    return torch.rand(count, generator=generator) * (high - low) + low


def color_matrix(
    pixels: Tensor, brightness: float, contrast: float, saturation: float, hue: float, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one colour change per image: a matrix (batch, 3, 3) and a bias (batch, 3) on the 0..1 scale.

    `pixels` are uint8 (batch, 3, height, width); the other arguments are the largest changes, as in torchvision's
    ColorJitter. All four are affine in the colour of a pixel, so they combine to one matrix: brightness scales,
    contrast blends with the mean grey of the image, saturation with the grey of the pixel, hue rotates around grey.
    """
    count, device = len(pixels), pixels.device
    bright, contrasts, saturate = (
        uniform(count, 1 - spread, 1 + spread, generator).view(count, 1, 1)
        for spread in (brightness, contrast, saturation)
    )
    angle = uniform(count, -hue, hue, generator) * 2 * math.pi
    saturation_matrix = saturate * torch.eye(3) + (1 - saturate) * torch.tensor(_LUMA).expand(3, 3)
    matrix = _hue_matrix(angle) @ saturation_matrix * (bright * contrasts)
    blend = (1 - contrasts.view(count)) * bright.view(count)
    every_fourth = pixels[:, :, ::4, ::4].float()  # enough for a mean, and reads a sixteenth
    luma = constant(_LUMA, device)
    mean_gray = torch.einsum("bchw,c->b", every_fourth, luma) / (255 * every_fourth[0, 0].numel())
    bias = send(blend, device) * mean_gray
    return send(matrix, device), bias.view(count, 1).expand(count, 3)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Return rotations of colour around the grey axis, (batch, 3, 3), by angles in radians (batch,)."""
    to_yiq = torch.tensor(_YIQ)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack((one, zero, zero, zero, cos, sin, zero, -sin, cos), dim=1).view(-1, 3, 3)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return matrix


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
    """Draw one flip, rotation, zoom, shift and crop per image, as matrices (count, 2, 3) for `warp`.

    A matrix maps output to input coordinates, both -1..1. `size` is (height, width), `flip` a probability, `rotate` in
    degrees, `scale` and `shift` relative to the image. The moved image is then cropped as in torchvision's
    RandomResizedCrop: a random box of at least `1 - crop` of the area, with 3/4 to 4/3 of the image's aspect ratio. A
    box that does not fit is narrowed instead of drawn again.
    """
    height, width = size
    mirror = 1 - 2 * (torch.rand(count, generator=generator) < flip).float()
    angle = uniform(count, -rotate, rotate, generator) * math.pi / 180
    zoom = 1 / uniform(count, 1 - scale, 1 + scale, generator)
    shift_x, shift_y = (uniform(count, -2 * shift, 2 * shift, generator) for _ in range(2))
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    cells = (
        *(cos, -sin * height / width, shift_x),
        *(sin * width / height, cos, shift_y),
        *(*torch.zeros(2, count), torch.ones(count)),
    )
    motion = torch.stack(cells, dim=1).view(count, 3, 3)
    return (motion @ _random_crop(count, crop, mirror, generator))[:, :2]


def _random_crop(count: int, crop: float, mirror: Tensor, generator: torch.Generator) -> Tensor:
    """Draw matrices (count, 3, 3) from output coordinates to those of a random box; `mirror` is -1 to flip, or 1."""
    area = uniform(count, 1 - crop, 1.0, generator)
    spread = math.log(4 / 3) if crop else 0.0
    ratio = uniform(count, -spread, spread, generator).exp()
    wide, tall = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = (uniform(count, -1.0, 1.0, generator) * (1 - side) for side in (wide, tall))
    zero, one = torch.zeros(count), torch.ones(count)
    return torch.stack((wide * mirror, zero, left, zero, tall, top, zero, zero, one), dim=1).view(count, 3, 3)


def warp(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Resample pixels (batch, 3, height, width) with a matrix (batch, 2, 3) from `affine_matrix` each.

    Bilinear, mirrored beyond the edges; returns float32 on the scale of the input.
    """
    height, width = pixels.shape[2:]
    matrix = send(matrix, pixels.device)
    xs, ys = (2 * (torch.arange(side, device=pixels.device) + 0.5) / side - 1 for side in (width, height))
    from_x = matrix[:, :, :1] * xs + matrix[:, :, 2:]  # (batch, 2, width)
    from_y = matrix[:, :, 1:2] * ys  # (batch, 2, height)
    grid = (from_x[:, :, None, :] + from_y[:, :, :, None]).permute(0, 2, 3, 1)  # (batch, height, width, 2)
    return functional.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def random_erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Set a patch of 2 to 20 percent of some images of a normalised batch to the mean colour, in place.

    Source: Zhong et al., Random Erasing, 2017.
    """
    count, _, height, width = images.shape
    hit = torch.rand(count, generator=generator) < probability
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
    """Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch with a permutation of itself.

    `mixup` and `cutmix` are the alpha of a Beta(alpha, alpha) distribution, 0 for never; with both, one of the two is
    chosen per batch with equal probability. CutMix pastes a `box`, or a vertical `strip` of full height, so that the
    parts of a face stay in place.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    shape: str = "box"

    def __call__(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Mix images (batch, 3, height, width); return them, the permutation (batch,), and lam.

        The loss is `lam * loss(labels) + (1 - lam) * loss(labels[permutation])`. For CutMix, lam is the share of the
        area that is really left after the box was cut off at the edges.
        """
        count, _, height, width = images.shape
        if not self.mixup and not self.cutmix:
            return images, torch.arange(count, device=images.device), 1.0
        cut = torch.rand((), generator=generator).item() < (0.5 if self.mixup else 1.0) if self.cutmix else False
        lam = _beta(self.cutmix if cut else self.mixup, generator)
        permutation = send(torch.randperm(count, generator=generator), images.device)
        if not cut:
            return images.lerp(images[permutation], 1 - lam), permutation, lam
        top, left, bottom, right = _patch(height, width, 1 - lam, self.shape, generator)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[permutation, :, top:bottom, left:right]
        return mixed, permutation, 1 - (bottom - top) * (right - left) / (height * width)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw a number from Beta(alpha, alpha), as a ratio of two gamma variates."""
    first, second = torch._standard_gamma(torch.full((2,), alpha), generator=generator).tolist()
    return float(first / (first + second)) if first + second > 0 else 0.5


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
