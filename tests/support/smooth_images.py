"""Generated images that are as smooth as photographs, each different from all others."""

import io

import numpy as np
from PIL import Image


def smooth_image(number: int, size: tuple[int, int] = (96, 128), detail: int = 6) -> Image.Image:
    """Draw an image (width, height) of soft coloured spots, as many as `detail` in each direction."""
    spots = np.random.default_rng([7, number]).integers(0, 256, (detail, detail, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def scaled(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
