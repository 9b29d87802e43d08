"""The ten images of the golden pack, drawn here: each shows something that implementations get wrong. No torch.

They are the same on every machine with the same version of Pillow, and they show no person.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.images import MAX_PIXELS

SIDEWAYS = 6  # of EXIF: the stored image is turned by 90 degrees
_MAX_SIDE = 10_000  # times 1.5 WebP can still hold it, times 2.5 JPEG


@dataclass(frozen=True)
class GoldenImage:
    """An image file of the pack: its name and its bytes."""

    name: str
    data: bytes


def golden_images(size: tuple[int, int]) -> list[GoldenImage]:
    """Draw the ten images for a network that takes images of `size` (height, width) in pixels.

    The sizes of the files depend on it: a JPEG must be large enough that libjpeg reduces it while it decodes. For a
    huge crop they are as large as images may be.
    """
    height, width = drawn_size(size)
    half, double, wide = (3 * width // 2, 3 * height // 2), (5 * width // 2, 5 * height // 2), (8 * width, height // 2)
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    alpha = Image.fromarray(_gradient(half))
    return [
        _encode("jpeg.jpg", _draw(1, double), "JPEG", quality=90),
        _encode("png.png", _draw(2, half), "PNG"),
        _encode("webp.webp", _draw(3, half), "WEBP", quality=90),
        _encode("exif.jpg", _draw(4, half[::-1]), "JPEG", quality=90, exif=exif.tobytes()),
        _encode("cmyk.jpg", _draw(5, half).convert("CMYK"), "JPEG", quality=90),
        _encode("grey.jpg", _draw(6, half).convert("L"), "JPEG", quality=90),
        _encode("rgba.png", _with_alpha(_draw(7, half), alpha), "PNG"),
        _encode("16-bit.png", Image.fromarray(_sixteen_bits(_draw(8, half).convert("L"))), "PNG"),
        _encode("tiny.png", _draw(9, (5, 7)), "PNG"),
        _encode("wide.png", _draw(10, (max(wide[0], 1), max(wide[1], 1))), "PNG"),
    ]


def drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return a size (height, width), reduced where images of 2.5 times its sides would be too large for MAX_PIXELS."""
    height, width = (min(side, _MAX_SIDE) for side in size)
    scale = min(1.0, math.sqrt(MAX_PIXELS / (2.5**2 * height * width)))
    return max(1, int(height * scale)), max(1, int(width * scale))


def _encode(name: str, image: Image.Image, kind: str, **options: Any) -> GoldenImage:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return GoldenImage(name, buffer.getvalue())


def _draw(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return an image of a size (width, height) with smooth random colours, fine stripes, and no symmetry."""
    width, height = size
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    rows, columns = np.mgrid[:height, :width]
    stripes = 40 * ((rows + 2 * columns) // 2 % 2) - 20  # what a filter without antialiasing does not average
    return Image.fromarray((smooth + stripes[..., None]).clip(0, 255).astype(np.uint8))


def _gradient(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return transparency from 0 to 255, from left to right, (height, width)."""
    width, height = size
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def _with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image.putalpha(alpha)
    return image


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """Return 16 bits for each pixel of a grey image, (height, width); the lower 8 differ from the upper."""
    pixels = np.asarray(image).astype(np.uint16)
    return pixels * np.uint16(256) + (np.uint16(255) - pixels)
