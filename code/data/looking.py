"""What a look at every image of a data set finds: its size, its digest, its signature, or why it cannot be used.

Images are decoded once, by processes with limits (decode_pool.py), and only what is listed here is kept. No torch.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.decode_board import DecodeLimits
from data.decoding import stream
from data.digests import DIGEST_BYTES, DigestArray
from data.images import FORMATS, Pixels, Preparation, prepare
from data.orientation import read_orientation
from data.png_chunks import drop_ancillary_chunks
from data.signatures import SIDE, signatures_of
from runtime.errors import ImageError

_DECODED = 4 * SIDE  # pixels of each side, which signatures average
_BATCH = 256
_SIDEWAYS = (5, 6, 7, 8)
_THUMBNAIL = 160  # pixels of the longer side


@dataclass(frozen=True)
class Looked:
    """What is known of `n` images: sizes (n, 2), width first; digests (n, 32); signatures (n, 24, 24, 3); errors."""

    sizes: NDArray[np.int64]
    digests: DigestArray
    signatures: Pixels
    errors: dict[int, ImageError]  # by index

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Return True for each image that can be used, (n,)."""
        usable = np.ones(len(self.sizes), np.bool_)
        usable[list(self.errors)] = False
        return usable


def look(paths: Sequence[Path], processes: int = 0, limits: DecodeLimits | None = None) -> Looked:
    """Decode every image once; raises DecodingError if no image can be decoded any more."""
    count = len(paths)
    sizes, errors = np.zeros((count, 2), np.int64), {}
    digests = np.zeros((count, DIGEST_BYTES), np.uint8)
    signatures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    batches = stream(
        paths,
        Preparation((_DECODED + 1, _DECODED)),
        batch_size=_BATCH,
        processes=processes,
        limits=limits,
        decoder="data.looking:prepare_with_size",
    )
    for number, (pixels, outcomes) in enumerate(batches):
        start = number * _BATCH
        part = slice(start, start + len(outcomes))
        sizes[part] = np.ascontiguousarray(pixels[:, -1]).reshape(len(pixels), -1)[:, :8].copy().view("<u4")
        signatures[part] = signatures_of(pixels[:, :-1])
        for index, outcome in enumerate(outcomes, start):
            if outcome.digest:
                digests[index] = np.frombuffer(outcome.digest, np.uint8)
            if outcome.error:
                errors[index] = outcome.error
    return Looked(sizes, digests, signatures, errors)


def prepare_with_size(source: bytes, preparation: Preparation, name: str = "the image") -> Pixels:
    """Prepare an image, with its own width and height as the first eight bytes of one more line of pixels.

    `preparation.size` includes that line. The pool calls this in a process with limits; raises ImageError as `prepare`.
    """
    height, width = preparation.size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:-1] = prepare(source, replace(preparation, size=(height - 1, width)), name)
    with Image.open(io.BytesIO(drop_ancillary_chunks(source)), formats=FORMATS) as image:
        size = image.size[::-1] if read_orientation(image) in _SIDEWAYS else image.size
    pixels[-1].reshape(-1)[:8] = np.array(size, "<u4").view(np.uint8)
    return pixels


def thumbnails(
    paths: Sequence[Path],
    sizes: NDArray[np.int64],
    processes: int = 0,
    limits: DecodeLimits | None = None,
) -> list[bytes]:
    """Return a small JPEG file of each image in its own shape, sizes (n, 2); black if it cannot be used."""
    files: list[bytes] = []
    for pixels, _ in stream(
        paths, Preparation((_THUMBNAIL, _THUMBNAIL)), batch_size=_BATCH, processes=processes, limits=limits
    ):
        for image in pixels:
            width, height = np.maximum(sizes[len(files)], 1).tolist()
            scale = _THUMBNAIL / max(width, height)
            shape = max(1, round(width * scale)), max(1, round(height * scale))
            buffer = io.BytesIO()
            Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
            files.append(buffer.getvalue())
    return files
