"""One image: from bytes to the pixels that the model sees. Deterministic, and the same for every command. No torch.

Decoding, EXIF rotation, RGB, centre crop and fitting (fitting.py) happen only here, so training, validation, inference
and serving see the same pixels. A JPEG is decoded at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8) that does not
go below the size that it is scaled to (Pillow's draft mode). Damaged metadata never decides whether an image can be
used: it is ignored.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, UnidentifiedImageError, features

from data.fitting import Fitting
from data.orientation import TRANSPOSE, UPRIGHT, read_orientation
from data.png_chunks import drop_ancillary_chunks
from runtime.errors import ImageError, reason_of
from runtime.files import UnusableFile, read_regular

# Per channel (red, green, blue) of pixels scaled to 0..1.
ORIGINAL_MEAN, ORIGINAL_STD = (0.548, 0.504, 0.479), (0.237, 0.247, 0.246)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Few, because every decoder is attack surface. Of several frames or pages, the first is decoded.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF", *(("AVIF",) if features.check("avif") else ()))
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif")
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every CPU has a process that decodes; the stacks of threads count as memory
MAX_PIXELS = 50_000_000
MAX_BYTES = 100_000_000
_BAND_PIXELS = 1_000_000

_SIDEWAYS = (5, 6, 7, 8)
# Orientations whose left or top edge is the right or bottom edge of the stored image.
_LEFT_WAS_LAST, _TOP_WAS_LAST = (2, 3, 6, 7), (3, 4, 7, 8)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Preparation:
    """Deterministic steps before the model: centre crop, then `fit` to a size, both (height, width), mean and std.

    `fit` is one of fitting.FITS. A model.json or a checkpoint without it is of a version that always stretched.
    """

    size: tuple[int, int] = (128, 96)
    crop: tuple[int, int] | None = None
    mean: tuple[float, float, float] = ORIGINAL_MEAN
    std: tuple[float, float, float] = ORIGINAL_STD
    fit: str = "stretch"

    @property
    def fill(self) -> tuple[int, int, int]:
        """Return the colour of padding, the mean as red, green, blue: 0 once it is normalised, to half a level."""
        red, green, blue = (min(max(round(255 * value), 0), 255) for value in self.mean)
        return red, green, blue

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; the inverse of `from_dict`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**fields)


def is_image_file(filename: str) -> bool:
    """Return True if a file name has the extension of an image, in any case."""
    return filename.lower().endswith(EXTENSIONS)


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file; raise ImageError if it cannot be opened, is no regular file or too large."""
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        if isinstance(error, UnusableFile) and error.is_too_large:
            raise ImageError(f"{error.strerror}: {path}", "too_large") from None
        raise ImageError(f"cannot be opened ({error.strerror}): {path}", "missing") from None


def prepare(
    source: Path | bytes,
    preparation: Preparation,
    name: str = "the image",
    admit: Callable[[Image.Image], None] | None = None,
) -> Pixels:
    """Decode, crop and fit one image to (height, width, 3), uint8.

    Of an animated image, the first frame is used. `name` is what messages call an image that is given as bytes. `admit`
    is called with the image when its header is read, and before any pixel is decoded. Raises ImageError if the file is
    missing, empty, truncated, not an image, or above the limits (100 MB, 50 megapixels).
    What a decoder costs cannot be known from the file; processes with limits bound it (decode_pool.py).
    """
    with _opened(source, name) as image:
        if admit:
            admit(image)
        return fit(image, preparation)


def read_upright(source: Path | bytes) -> Image.Image:
    """Return the whole image at its own size, upright and RGB; raises ImageError as `prepare` does."""
    with _opened(source) as image:
        return _upright(image, read_orientation(image) or UPRIGHT)


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str = "the image") -> Iterator[Image.Image]:
    """Open an image, and turn any error of a decoder in the `with` block into an ImageError."""
    data, name = (read_file(source), str(source)) if isinstance(source, Path) else (source, name)
    if not data:
        raise ImageError(f"an empty file is not an image: {name}", "empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{len(data)} bytes are more than the {MAX_BYTES} allowed: {name}", "too_large")
    try:
        with Image.open(io.BytesIO(drop_ancillary_chunks(data)), formats=FORMATS) as image:
            _check_size(image, name)
            yield image
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"more than the {MAX_PIXELS} pixels allowed: {name}", "too_large") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, ValueError, struct.error ...
        raise ImageError(f"cannot be read as an image ({_reason(error)}): {name}") from None


def is_outdated(error: ImageError) -> bool:
    """Return True if an image was none of the formats that another version of the job read."""
    return "(none of " in str(error) and f"(none of {', '.join(FORMATS)})" not in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return reason_of(error, 100)


def _check_size(image: Image.Image, name: str) -> None:
    """Raise ImageError if the header declares too many pixels; no pixel is decoded yet."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} is more than the {MAX_PIXELS} pixels allowed: {name}", "too_large")


def fit(image: Image.Image, preparation: Preparation) -> Pixels:
    """Prepare an opened image: turn it upright, convert to RGB, crop, and fit it to the size, antialiased.

    Returns (height, width, 3), uint8. A JPEG that is not loaded yet is decoded at a smaller scale if that suffices.
    """
    orientation = read_orientation(image) or UPRIGHT
    width, height = _turn(image.size, orientation)
    crop_height, crop_width = preparation.crop or (height, width)
    crop_height, crop_width = min(crop_height, height), min(crop_width, width)

    fitting = Fitting.of((crop_width, crop_height), preparation.size[::-1], preparation.fit)

    # The smallest whole image whose crop is still as large as what it is scaled to.
    needed = -(-width * fitting.scaled[0] // crop_width), -(-height * fitting.scaled[1] // crop_height)
    image.draft("RGB", _turn(needed, orientation))
    drafted = _turn(image.size, orientation)
    scale = _draft_scale((width, height), drafted)

    # Rounded as in torchvision's CenterCrop.
    left, top = round((width - crop_width) / 2), round((height - crop_height) / 2)
    left += (drafted[0] * scale - width) * (orientation in _LEFT_WAS_LAST)
    top += (drafted[1] * scale - height) * (orientation in _TOP_WAS_LAST)
    box = left / scale, top / scale, (left + crop_width) / scale, (top + crop_height) / scale
    return _pad(_resize(_upright(image, orientation), box, fitting), fitting, preparation.fill)


def _draft_scale(size: tuple[int, int], drafted: tuple[int, int]) -> int:
    """Return the factor by which libjpeg reduced the image; it rounds up: 385 pixels at 1/4 are 97, not 96.25."""
    return next(scale for scale in (1, 2, 4, 8) if (-(-size[0] // scale), -(-size[1] // scale)) == drafted)


def _resize(image: Image.Image, box: tuple[float, float, float, float], fitting: Fitting) -> Pixels:
    """Scale what the model sees of the box (left, top, right, bottom); the filter sees no pixel outside the box.

    Where only a part of the box is seen, the filter has a margin, so the result is that of scaling the whole box.
    """
    seen = fitting.source_box(box)
    left, top, right, bottom = fitting.visible
    margins = [_reach(seen[2] - seen[0], right - left), _reach(seen[3] - seen[1], bottom - top)]
    start_x, start_y = (math.floor(max(box[i], seen[i] - margins[i])) for i in (0, 1))
    end_x, end_y = (math.ceil(min(box[i + 2], seen[i + 2] + margins[i])) for i in (0, 1))
    outer = start_x, start_y, end_x, end_y
    cut = image if outer == (0, 0, *image.size) else image.crop(outer)  # a copy of all takes much memory
    inner = seen[0] - start_x, seen[1] - start_y, seen[2] - start_x, seen[3] - start_y
    return np.asarray(cut.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=inner))


def _reach(source: float, scaled: int) -> int:
    """Return how many pixels beyond a box the bilinear filter reads, at most."""
    return math.ceil(max(1.0, source / scaled)) + 1


def _pad(pixels: Pixels, fitting: Fitting, fill: tuple[int, int, int]) -> Pixels:
    """Return the pixels in the middle of an image of the target size; the rest has the colour `fill`."""
    width, height = fitting.target
    if pixels.shape == (height, width, 3):
        return pixels
    left, top = (max(0, -offset) for offset in fitting.offset)
    padded = np.full((height, width, 3), fill, np.uint8)
    padded[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
    return padded


def _turn(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Convert (width, height) of the stored image to those of the upright one, or back."""
    return (size[1], size[0]) if orientation in _SIDEWAYS else size


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    rgb = _to_rgb(image)
    return rgb.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to three 8-bit channels; alpha is dropped, and 16-bit channels keep their upper 8 bits.

    The upper bits are also kept of a file that uses only the lower 10 or 12, whether it says so (sBIT) or not, so such
    an image is nearly black.
    """
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; save 8 or 16 bits")
    if image.mode == "I" and image.format == "TIFF":  # Pillow's mode of all but 16 bits without a sign
        raise ValueError("pixels of 32 bits or with a sign, whose range is not known; save 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_upper_bits(image)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Pixels:
    """Return the upper 8 bits of an image of 16 bits, (height, width); a few rows at a time, as copies are large."""
    width, height = image.size
    image.load()
    found, rows = np.empty((height, width), np.uint8), max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(height, top + rows)))
        found[top : top + rows] = (np.asarray(band) >> 8).clip(0, 255)
    return found
