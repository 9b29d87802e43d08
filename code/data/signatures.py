"""Signatures: small copies of decoded images, and 64 coefficients of each that nearly equal images share. No torch.

A signature is an image averaged to 24 x 24 pixels, whatever its shape was: another size, another quality or another
format of the same image changes it by a few grey levels, and by a few bits a hash of the signs of its coefficients.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels

SIDE = 24
_CHUNK_BYTES = 1 << 26  # of decoded images that are averaged at once
_LUMA, _CHROMA = 7, 3  # lowest frequencies in each direction that make bits: 7 * 7 - 1 and twice 3 * 3 - 1, 64 in all

Floats = NDArray[np.float32]


def signatures_of(pixels: Pixels) -> Pixels:
    """Return the signatures (images, 24, 24, 3) of images (images, height, width, 3), uint8 both."""
    rows = _averages(pixels.shape[1])
    columns = np.kron(_averages(pixels.shape[2]).T, np.eye(3, dtype=np.float32))  # for each channel on its own
    found = np.empty((len(pixels), SIDE, SIDE, 3), np.uint8)
    for part in chunks(len(pixels), max(1, _CHUNK_BYTES // max(1, 4 * pixels[:1].size))):
        images = pixels[part].astype(np.float32)
        lines = rows @ images.reshape(*images.shape[:2], -1)
        found[part] = np.rint(lines.reshape(-1, len(columns)) @ columns).reshape(-1, SIDE, SIDE, 3)
    return found


def mirrored(signatures: Pixels) -> Pixels:
    """Return the signatures of the mirrored images."""
    return signatures[:, :, ::-1]


def coefficients_of(signatures: Pixels) -> Floats:
    """Return 64 coefficients of each signature, (images, 64): its discrete cosine transform at the lowest frequencies.

    48 are of brightness and 16 of colour. Mean brightness is not among them.
    """
    values = signatures.astype(np.float32)
    luma = values.mean(-1)
    planes = ((luma, _LUMA, 0), (values[..., 0] - luma, _CHROMA, 8), (values[..., 2] - luma, _CHROMA, 8))
    columns = []
    for plane, count, dropped in planes:
        waves = _cosines(count)
        columns.append(np.delete((waves @ plane @ waves.T).reshape(len(values), -1), dropped, 1))
    return np.concatenate(columns, 1)


def chunks(count: int, size: int) -> Iterator[slice]:
    """Yield slices that cover `count` items, at most `size` each."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _averages(length: int) -> Floats:
    """Return the weights (24, length) that average a line of pixels to 24 values, each over the part it covers."""
    edges = np.arange(SIDE + 1) * length / SIDE
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(overlap.clip(0) * SIDE / length, np.float32)


def _cosines(count: int) -> Floats:
    """Return the first `count` waves of the discrete cosine transform, (count, 24)."""
    angles = np.arange(count)[:, None] * (np.arange(SIDE) + 0.5) * np.pi / SIDE
    return np.asarray(np.cos(angles) / SIDE, np.float32)
