"""Mistakes that other implementations are known to make, at each stage; verify.py names the one that fits. No torch.

A decode mistake maps the bytes of an image to prepared pixels (height, width, 3), a resize mistake an upright RGB image
to prepared pixels, and a normalise mistake prepared pixels (batch, height, width, 3) to float32 of the same shape.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.fitting import FITS, Fitting
from data.images import IMAGENET_MEAN, IMAGENET_STD, Pixels, Preparation, fit

Floats = NDArray[np.float32]
Decode = Callable[[bytes, Preparation], Pixels]
Resize = Callable[[Image.Image, Preparation], Pixels]
Normalise = Callable[[Pixels, Preparation], Floats]


def _as_stored(data: bytes, preparation: Preparation) -> Pixels:
    """Prepare an image without its EXIF orientation, and without the smaller scale of a JPEG."""
    return _prepared(np.asarray(Image.open(BytesIO(data)).convert("RGB")), preparation)


def _blended(data: bytes, preparation: Preparation, *, background: str) -> Pixels:
    image = Image.open(BytesIO(data)).convert("RGBA")
    canvas = Image.new("RGBA", image.size, background)
    canvas.alpha_composite(image)
    return _prepared(np.asarray(canvas.convert("RGB")), preparation)


def _inverted(data: bytes, preparation: Preparation) -> Pixels:
    inks = Image.fromarray(255 - np.asarray(Image.open(BytesIO(data))), "CMYK")
    return _prepared(np.asarray(inks.convert("RGB")), preparation)


def _eight_bits(data: bytes, preparation: Preparation, *, change: Callable[[NDArray[np.uint16]], Pixels]) -> Pixels:
    grey = change(np.asarray(Image.open(BytesIO(data))))
    return _prepared(np.repeat(grey[..., None], 3, axis=2), preparation)


def _prepared(pixels: Pixels, preparation: Preparation) -> Pixels:
    return fit(Image.fromarray(pixels), preparation)


def _scaled(image: Image.Image, preparation: Preparation, *, scale: Callable[..., Image.Image]) -> Pixels:
    """Crop and fit an image with another way of scaling."""
    crop_height, crop_width = preparation.crop or image.size[::-1]
    width, height = min(crop_width, image.width), min(crop_height, image.height)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    fitting = Fitting.of((width, height), preparation.size[::-1], preparation.fit)
    scaled = scale(image.crop((left, top, left + width, top + height)), fitting.scaled)
    canvas = Image.new("RGB", fitting.target, preparation.fill)
    canvas.paste(scaled, (-fitting.offset[0], -fitting.offset[1]))
    return np.asarray(canvas)


def _without_antialiasing(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale with the four nearest pixels, as most libraries do by default."""
    across, down = image.width / size[0], image.height / size[1]
    matrix = (across, 0.0, 0.0, 0.0, down, 0.0)
    return image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _with_filter(image: Image.Image, size: tuple[int, int], *, resample: Image.Resampling) -> Image.Image:
    return image.resize(size, resample)


def _fitted(image: Image.Image, preparation: Preparation, *, kind: str) -> Pixels:
    return fit(image.copy(), replace(preparation, fit=kind))


def _whole(image: Image.Image, preparation: Preparation) -> Pixels:
    return fit(image.copy(), replace(preparation, crop=None))


def _divided(pixels: Pixels, by: float) -> Floats:
    return pixels.astype(np.float32) / np.float32(by)


def _standardised(pixels: Pixels, preparation: Preparation) -> Floats:
    """Normalise as it is right."""
    return _shifted(_divided(pixels, 255), preparation)


def _shifted(values: Floats, preparation: Preparation) -> Floats:
    shifted: Floats = ((values - np.array(preparation.mean)) / np.array(preparation.std)).astype(np.float32)
    return shifted


def _twice(pixels: Pixels, preparation: Preparation) -> Floats:
    return _shifted(_standardised(pixels, preparation), preparation)


DECODE: dict[str, tuple[str, Decode]] = {  # the image that shows it, and what it does
    "the EXIF orientation is ignored": ("exif.jpg", _as_stored),
    "a large JPEG is decoded whole, not at the smallest scale that suffices": ("jpeg.jpg", _as_stored),
    "transparency is blended with black, not dropped": ("rgba.png", partial(_blended, background="black")),
    "transparency is blended with white, not dropped": ("rgba.png", partial(_blended, background="white")),
    "CMYK is inverted": ("cmyk.jpg", _inverted),
    "of 16 bits the lower 8 are used": ("16-bit.png", partial(_eight_bits, change=lambda grey: grey.astype(np.uint8))),
    "16 bits are clipped to 255": (
        "16-bit.png",
        partial(_eight_bits, change=lambda grey: grey.clip(0, 255).astype(np.uint8)),
    ),
}


def resize_mistakes(preparation: Preparation) -> dict[str, Resize]:
    """Return the mistakes of crop and scaling for a preparation."""
    found: dict[str, Resize] = {
        "scaled without antialiasing": partial(_scaled, scale=_without_antialiasing),
        **{
            f"scaled with the filter {name.lower()}": partial(
                _scaled, scale=partial(_with_filter, resample=Image.Resampling[name])
            )
            for name in ("NEAREST", "BICUBIC", "LANCZOS", "BOX")
        },
    }
    found |= {f"fit is {kind}": partial(_fitted, kind=kind) for kind in FITS if kind != preparation.fit}
    return found | ({"the crop is left out": _whole} if preparation.crop else {})


def normalise_mistakes(preparation: Preparation) -> dict[str, Normalise]:
    """Return the mistakes of normalisation for a preparation."""
    found: dict[str, Normalise] = {
        "red and blue are swapped": lambda pixels, its: _standardised(pixels[..., ::-1], its),
        "mean and std are left out": lambda pixels, its: _divided(pixels, 255),
        "pixels are scaled to -1 to 1": lambda pixels, its: _divided(pixels, 127.5) - np.float32(1),
        "pixels are not divided by 255": lambda pixels, its: _divided(pixels, 1),
        "pixels are normalised twice": _twice,
    }
    if (preparation.mean, preparation.std) != (IMAGENET_MEAN, IMAGENET_STD):
        imagenet = replace(preparation, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        found["mean and std are those of ImageNet"] = lambda pixels, its: _standardised(pixels, imagenet)
    return found
