"""The random numbers of a batch, drawn per image on the CPU, for batch_transforms.py to apply on the device.

All come from one generator on the CPU, in a fixed order, and none depends on the device: every device applies the same
transforms. Their number and shapes depend on the options and the shape of the batch alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runtime.devices import send

BLOCK = 8  # images that are processed together on a CPU, and that share a generator of noise
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; Pillow and torchvision use it for grey
# NTSC's YIQ: luma, and two axes of colour around grey.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_ALIGNMENT = 16  # bytes


@dataclass(frozen=True)
class Draws:
    """What is drawn for a batch: tensors by name for its device, and the seeds of noise, which stay on the host."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    noise_seeds: Sequence[int] = ()

    def to(self, device: torch.device) -> "Draws":
        """Return the draws with all tensors on a device; they travel in one copy, which nothing waits for."""
        packed, ends = [], {}
        for name, tensor in self.tensors.items():
            flat = tensor.contiguous().view(-1).view(torch.uint8)
            padding = torch.zeros(-len(flat) % _ALIGNMENT, dtype=torch.uint8)
            packed += [flat, padding]
            ends[name] = len(flat)
        if not packed:
            return self
        buffer, start, tensors = send(torch.cat(packed), device), 0, {}
        for name, tensor in self.tensors.items():
            tensors[name] = buffer[start : start + ends[name]].view(tensor.dtype).view(tensor.shape)
            start += -(-ends[name] // _ALIGNMENT) * _ALIGNMENT
        return Draws(tensors, self.noise_seeds)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw (count,) numbers between low and high."""
    return torch.rand(count, generator=generator) * (high - low) + low


def color_change(
    count: int, brightness: float, contrast: float, saturation: float, hue: float, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one colour change per image: a matrix (count, 3, 3), and how much of its mean grey (count,) it adds.

    The arguments are the largest changes, as in torchvision's ColorJitter. All four are affine in the colour of a
    pixel, so they combine to one matrix and one grey: brightness scales, contrast blends with the mean grey of the
    image, saturation with the grey of the pixel, hue rotates around grey.
    """
    bright, contrasts, saturate = (
        uniform(count, 1 - spread, 1 + spread, generator).view(count, 1, 1)
        for spread in (brightness, contrast, saturation)
    )
    angle = uniform(count, -hue, hue, generator) * 2 * math.pi
    saturation_matrix = saturate * torch.eye(3) + (1 - saturate) * torch.tensor(LUMA).expand(3, 3)
    matrix = _hue_matrix(angle) @ saturation_matrix * (bright * contrasts)
    return matrix, (1 - contrasts.view(count)) * bright.view(count)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Return rotations of colour around the grey axis, (batch, 3, 3), by angles in radians (batch,)."""
    to_yiq = torch.tensor(_YIQ)
    zero, one = torch.zeros(len(angle)), torch.ones(len(angle))
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
    return (motion @ _random_crop(count, crop, mirror, generator))[:, :2].contiguous()


def _random_crop(count: int, crop: float, mirror: Tensor, generator: torch.Generator) -> Tensor:
    """Draw matrices (count, 3, 3) from output coordinates to those of a random box; `mirror` is -1 to flip, or 1."""
    area = uniform(count, 1 - crop, 1.0, generator)
    spread = math.log(4 / 3) if crop else 0.0
    ratio = uniform(count, -spread, spread, generator).exp()
    wide, tall = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = (uniform(count, -1.0, 1.0, generator) * (1 - side) for side in (wide, tall))
    zero, one = torch.zeros(count), torch.ones(count)
    return torch.stack((wide * mirror, zero, left, zero, tall, top, zero, zero, one), dim=1).view(count, 3, 3)


def erased_patches(count: int, size: Sequence[int], probability: float, generator: torch.Generator) -> Tensor:
    """Draw a patch of 2 to 20 percent for some images: top, left, bottom, right (count, 4) in pixels, else zeros.

    `size` is (height, width). Source: Zhong et al., Random Erasing, 2017.
    """
    height, width = size
    hit = torch.rand(count, generator=generator) < probability
    area = uniform(count, 0.02, 0.2, generator)
    ratio = uniform(count, math.log(0.3), math.log(3.3), generator).exp()  # of height to width
    tall, wide = ((area * ratio).sqrt() * height).clamp(max=height), ((area / ratio).sqrt() * width).clamp(max=width)
    top, left = (
        uniform(count, 0.0, 1.0, generator) * (height - tall),
        uniform(count, 0.0, 1.0, generator) * (width - wide),
    )
    return torch.stack((top, left, top + tall, left + wide), dim=1).round().long() * hit.unsqueeze(1)


def noise_seeds(count: int, generator: torch.Generator) -> list[int]:
    """Draw the seeds of the noise of `count` images: one for each block of eight."""
    seeds: list[int] = torch.randint(2**62, (-(-count // BLOCK),), generator=generator).tolist()
    return seeds
