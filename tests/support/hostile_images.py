"""Damaged and hostile image files, built byte by byte."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from data.images import MAX_PIXELS
from data.png_chunks import SIGNATURE

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def header(kind: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return kind + b"".join(parts)


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a black-and-white PNG; rows of zeros compress a thousandfold."""
    size = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return header(SIGNATURE, (b"IHDR", size), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))


def jpeg(width: int, height: int) -> bytes:
    """Return a small JPEG whose header gives a large size."""
    data = bytearray(encoded("JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """Return a GIF without pixels."""
    head = b"GIF89a" + struct.pack("<HH", *screen) + bytes(3)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2"


def tiff(width: int, height: int) -> bytes:
    """Return a grey TIFF of one strip without pixels; its entries are tag, type (4 is a long), count and value."""
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def avif(width: int, height: int) -> bytes:
    """Return an AVIF of a small image whose header claims another size."""
    data, size = encoded("AVIF"), NOISE.size
    assert data.count(struct.pack(">4sIII", b"ispe", 0, *size)) == 1
    return data.replace(struct.pack(">4sIII", b"ispe", 0, *size), struct.pack(">4sIII", b"ispe", 0, width, height))


BOMBS = {
    "84 megapixels in ten kilobytes": png(9166, 9166, bytes(9166 * 1147)),
    "100 megapixels": png(10_000, 10_000, b""),
    "3,600 megapixels": png(60_000, 60_000, b""),
    "one pixel too many": png(MAX_PIXELS + 1, 1, b""),
    "a JPEG": jpeg(65_000, 1000),
    "a portable pixmap": b"P6 100000 100000 255\n",
    "a GIF": gif((9000, 9000), (8, 8)),
    "a GIF whose frame is larger than it": gif((1, 1), (9000, 9000)),
    "a TIFF": tiff(60_000, 60_000),
    "an AVIF": avif(9000, 9000),
}


def webp(width: int, height: int) -> bytes:
    """Return a lossless WebP without pixels."""
    size = struct.pack("<I", width - 1 | (height - 1) << 14)
    return b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + size + bytes(13)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def arithmetic_jpeg(scans: int) -> bytes:
    """Return a JPEG of 49 megapixels and four components whose scans, in arithmetic coding, need no data."""
    size = struct.pack(">BHHB", 8, 7000, 7000, 4) + b"".join(bytes((number, 0x11, 0)) for number in range(1, 5))
    first = b"".join(segment(0xDA, bytes((1, number, 0, 0, 63, 0))) for number in range(1, 5))
    more = segment(0xDA, bytes((1, 1, 0, 0, 63, 0))) * scans
    return b"\xff\xd8" + segment(0xDB, bytes((0, *[1] * 64))) + segment(0xC9, size) + first + more + b"\xff\xd9"


def deep_png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    size = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return header(SIGNATURE, (b"IHDR", size), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))


def with_rationals(count: int) -> bytes:
    """Return a PNG with Exif of so many fractions."""
    offset = 8 + 2 + 12 + 4
    entry = struct.pack(">HHII", 0x9201, 5, count, offset)
    exif = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4) + struct.pack(">II", 1, 3) * count
    buffer = io.BytesIO()
    NOISE.save(buffer, "PNG", exif=b"Exif\0\0" + exif)
    return buffer.getvalue()


def with_texts(count: int) -> bytes:
    """Return a PNG with texts of a megabyte each, compressed and without a keyword."""
    size = b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    text = b"zTXt", b"\0\0" + zlib.compress(bytes(1_000_000), 9)
    return header(SIGNATURE, size, *[text] * count, (b"IDAT", zlib.compress(bytes(72))), (b"IEND", b""))


# By name: a function that builds the file, and whether decoding it exceeds 0.3 s of CPU or 512 MiB.
COSTLY: dict[str, tuple[Callable[[], bytes], bool]] = {
    "scans in arithmetic coding": (lambda: arithmetic_jpeg(500), True),
    "a comment inside a number": (lambda: b"P5 1#" + b"x" * 6_000_000 + b"\n2 3 255\n" + bytes(36), True),
    "a tall PNG": (lambda: png(1, MAX_PIXELS, bytes(2 * MAX_PIXELS)), True),
    "a tall PNG of 16 bits": (lambda: deep_png(1, MAX_PIXELS, 16, 0, bytes(3 * MAX_PIXELS)), True),
    "a wide PNG of 64 bits": (lambda: deep_png(MAX_PIXELS, 1, 16, 6, b""), True),
    "a large WebP of 38 bytes": (lambda: webp(7000, 7000), False),
    "texts without a keyword": (lambda: with_texts(5000), False),
    "fractions": (lambda: with_rationals(700_000), False),
}
