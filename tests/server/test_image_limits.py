"""No small file can keep a decoder busy for minutes, and no ordinary image is rejected for its structure."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from data.images import MAX_PIXELS, Preparation, prepare
from runtime.errors import ImageError
from server.image_limits import (
    MAX_PPM_HEADER,
    MAX_SCANS,
    MAX_SEGMENTS,
    check_image,
    find_exceeded_limit,
    find_excess_scans,
)

SMALL = Preparation((16, 12))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*between: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(25 * 8)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(between) + pixels + chunk(b"IEND")


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes) -> bytes:
    """Return a JPEG with these segments at its beginning."""
    data = encoded("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def with_scans(count: int, **options: object) -> bytes:
    """Return a grey JPEG with `count` more scans over its pixels."""
    data = encoded("JPEG", NOISE.convert("L"), progressive=True, **options)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:-2] + scan * count + data[-2:]


def bmp(compression: int, header_bytes: int = 40) -> bytes:
    head = struct.pack("<IiiHHIIiiII", header_bytes, 8, 8, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + head + bytes(1024) + bytes(64)


def with_markers_in_scans(marker: int) -> bytes:
    """Return a JPEG with many scans after a marker that has no length field."""
    data = with_scans(MAX_SCANS)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:second] + bytes((0xFF, marker)) + data[second:]


def mpo(count: int) -> bytes:
    """Return a JPEG that declares itself the first of two images, as some cameras write them."""
    entries = struct.pack(">III", 0x020003 | 0x20000000, 0, 0) + struct.pack(">HH", 0, 0)
    directory = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    directory += struct.pack(">HHII", 0xB002, 7, 32, 8 + 2 + 3 * 12 + 4)
    index = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 3) + directory + struct.pack(">I", 0) + entries * 2
    data = with_scans(count)
    return data[:2] + segment(0xE2, b"MPF\0" + index) + data[2:]


PROFILE = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1 << 20)))
EXCESSIVE = {
    "scans": with_scans(MAX_SCANS),
    "scans behind a marker": with_markers_in_scans(0x01),
    "scans of a first image": mpo(MAX_SCANS),
    "tables between scans": with_scans(1)[:-2] + segment(0xFE) * 12 * MAX_SCANS + b"\xff\xda" * MAX_SCANS,
    "segments after a marker without a length": with_segments(
        segment(0xF0, segment(0xE1, b"Exif\0\0") * (MAX_SEGMENTS + 1))
    ),
    "colour profiles": png(PROFILE * 2),
    "Exif segments": with_segments(*[segment(0xE1, b"Exif\0\0")] * (MAX_SEGMENTS + 1)),
    "bytes between segments": with_segments(bytes(MAX_SEGMENTS + 1)),
    "fill bytes": with_segments(b"\xff" * (MAX_SEGMENTS + 1)),
    "own chunks": png(chunk(b"teSt") * 2000),
    "empty image data": png(chunk(b"IDAT") * 2000),
    "texts": png(chunk(b"tEXt", b"key\0") * 2000),
    "a PPM in letters": b"P3\n8 8\n255\n" + b"0 " * 192,
    "a bitmap in letters": b"P1\n8 8\n" + b"0 " * 64,
    "a long comment": b"P6\n#" + b"x" * MAX_PPM_HEADER + b"\n8 8\n255\n" + bytes(192),
    "many comments": b"P6\n" + b"#\n" * MAX_PPM_HEADER + b"8 8\n255\n" + bytes(192),
    "a PPM of 7 levels": b"P6\n8 8\n7\n" + bytes(192),
    "a PPM of 16 bits": b"P6\n8 8\n65535\n" + bytes(384),
    "run lengths": bmp(1),
}


@pytest.mark.parametrize("name", EXCESSIVE)
def test_a_file_that_takes_too_long_is_rejected_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: decoded.append(name))
    with pytest.raises(ImageError, match=r"^would take too long to decode \(.*\): the image$") as caught:
        check_image(EXCESSIVE[name])
    assert caught.value.code == "too_large"
    assert decoded == []


ORDINARY: dict[str, Callable[[], bytes]] = {
    "baseline": lambda: encoded("JPEG"),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "grey": lambda: encoded("JPEG", NOISE.convert("L")),
    "CMYK": lambda: encoded("JPEG", NOISE.convert("CMYK")),
    "with Exif and a profile": lambda: encoded("JPEG", exif=b"Exif\0\0" + bytes(60_000), icc_profile=bytes(500_000)),
    "first of two images": lambda: mpo(9),
    "with restart markers": lambda: encoded("JPEG", restart_marker_blocks=1),
    "with some more scans": lambda: with_scans(20),
    "with a video behind it": lambda: encoded("JPEG", progressive=True) + b"\xff\xda\0\x02" * 5000,
    "with fill bytes": lambda: with_segments(b"\xff" * 7),
    "PNG": lambda: encoded("PNG"),
    "PNG with a profile": lambda: png(PROFILE),
    "PNG with some chunks": lambda: png(chunk(b"teSt") * 900),
    "large PNG in small chunks": lambda: png(chunk(b"teSt", bytes(2000)) * 3000),
    "WebP": lambda: encoded("WEBP"),
    "BMP": lambda: encoded("BMP"),
    "PPM": lambda: encoded("PPM"),
    "PPM with a comment": lambda: b"P6\n# drawn\n8 8 # size\n255\n" + bytes(192),
    "PGM": lambda: encoded("PPM", NOISE.convert("L")),
    "PGM of 16 bits": lambda: encoded("PPM", Image.fromarray(np.full((9, 9), 40_000, np.uint16))),
    "PBM": lambda: encoded("PPM", NOISE.convert("1")),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_image_is_within_the_limits(name: str) -> None:
    data = ORDINARY[name]()
    check_image(data)
    assert prepare(data, SMALL).shape == (16, 12, 3)


@pytest.mark.parametrize("data", [b"PK\3\4" + bytes(60), b"Please log in\n", b"Python is no image\n", b"P", b"PDF"])
def test_a_file_that_only_begins_like_an_image_is_not_an_image(data: bytes) -> None:
    check_image(data)
    with pytest.raises(ImageError, match="none of JPEG, PNG") as caught:
        prepare(data, SMALL)
    assert caught.value.code == "undecodable_image"


def test_a_larger_image_may_have_fewer_scans() -> None:
    data = with_scans(30)
    assert find_excess_scans(data, 64 * 96) is None
    assert find_excess_scans(data, MAX_PIXELS) == "more than 20 scans"


def test_the_check_ends_for_any_damaged_file() -> None:
    random = np.random.default_rng(0)
    originals = [EXCESSIVE["scans"], EXCESSIVE["texts"], EXCESSIVE["a long comment"], bmp(0)]
    for turn in range(2000):
        data = bytearray(originals[turn % 4])
        for offset in random.integers(0, len(data), 8):
            data[offset] = random.integers(256)
        cut = bytes(data[: random.integers(2, len(data))])
        for reason in (find_exceeded_limit(cut), find_excess_scans(cut, 1000)):
            assert reason is None or isinstance(reason, str)
    for marker in range(256):
        assert find_exceeded_limit(b"\xff\xd8" + bytes((0xFF, marker)) * 100) is None
