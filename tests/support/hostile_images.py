"""Damaged and hostile image files, built byte by byte."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from data.images import MAX_PIXELS

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def header(kind: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return kind + b"".join(parts)


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a black-and-white PNG; rows of zeros compress a thousandfold."""
    size = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return header(b"\x89PNG\r\n\x1a\n", (b"IHDR", size), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))


def jpeg(width: int, height: int) -> bytes:
    """Return a small JPEG whose header gives a large size."""
    data = bytearray(encoded("JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


BOMBS = {
    "84 megapixels in ten kilobytes": png(9166, 9166, bytes(9166 * 1147)),
    "100 megapixels": png(10_000, 10_000, b""),
    "3,600 megapixels": png(60_000, 60_000, b""),
    "one pixel too many": png(MAX_PIXELS + 1, 1, b""),
    "a JPEG": jpeg(65_000, 1000),
    "a portable pixmap": b"P6 100000 100000 255\n",
}
