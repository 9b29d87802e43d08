"""Damaged metadata never decides whether an image can be used, and a readable orientation is kept."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data.images import read_upright
from data.png_chunks import drop_ancillary_chunks
from runtime.errors import ImageError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
XMP = '<rdf:Description tiff:Orientation="6"/>'
MEGABYTES = zlib.compress(bytes(1_600_000))


def encoded(kind: str = "PNG", image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(name + body) if crc is None else crc
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


def with_chunk(added: bytes, data: bytes | None = None, before: bytes = b"IDAT") -> bytes:
    """Return a PNG with a chunk before its first chunk of a name."""
    data = encoded() if data is None else data
    start = data.index(before) - 4
    return data[:start] + added + data[start:]


def info(keyword: str, text: str, *, zipped: bool) -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    if keyword.startswith("XML"):
        found.add_itxt(keyword, text, zip=zipped)
    else:
        found.add_text(keyword, text, zip=zipped)
    return found


def pixels(data: bytes) -> Any:
    return np.asarray(read_upright(data))


DAMAGED = {
    "an orientation without a value": chunk(b"eXIf", bytes.fromhex("00 08 00 02 01 12 00 03")),
    "Exif that is none": chunk(b"eXIf", b"no tags here"),
    "an empty Exif": chunk(b"eXIf", b""),
    "Exif with a wrong checksum": chunk(b"eXIf", SIDEWAYS.tobytes()[6:], 0),
    "a text of 1.6 MB": chunk(b"zTXt", b"key\0\0" + MEGABYTES),
    "an international text of 1.6 MB": chunk(b"iTXt", b"key\0\1\0\0\0" + MEGABYTES),
    "XMP of 1.6 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
    "a profile of 1.6 MB": chunk(b"iCCP", b"icc\0\0" + MEGABYTES),
    "an unknown compression": chunk(b"zTXt", b"key\0\7abc"),
    "a text with a wrong checksum": chunk(b"tEXt", b"key\0value", 0),
    "a keyword that Pillow takes for transparency": chunk(b"tEXt", b"transparency\0none"),
    "a raw profile that is none": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n9\nxyz"),
    "gamma with a wrong checksum": chunk(b"gAMA", struct.pack(">I", 45455), 0),
    "short gamma": chunk(b"gAMA", b"1"),
    "short chromaticity": chunk(b"cHRM", b"1"),
    "a short resolution": chunk(b"pHYs", b"1"),
    "an empty intent": chunk(b"sRGB", b""),
    "a short animation": chunk(b"acTL", b"1"),
    "frames out of order": chunk(b"fcTL", struct.pack(">I", 7) + bytes(22)),
    "an unknown chunk with a wrong checksum": chunk(b"teSt", b"x", 0),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_chunk_that_changes_no_pixels_is_ignored(name: str, before: bytes) -> None:
    assert np.array_equal(pixels(with_chunk(DAMAGED[name], before=before)), np.asarray(NOISE))


def test_metadata_that_is_cut_off_after_the_pixels_is_ignored() -> None:
    data = encoded()
    assert np.array_equal(pixels(data[:-12] + chunk(b"tEXt", b"key\0" + bytes(100))[:50]), np.asarray(NOISE))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_orientation_that_cannot_be_read_is_upright(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    expected = pixels(encoded(kind, **options))
    for garbage in (b"no tags here at all", b"\0\x08\0\x02\x01\x12\0\x03", b"MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03"):
        assert np.array_equal(pixels(encoded(kind, exif=b"Exif\0\0" + garbage, **options)), expected)


ORIENTED = {
    "eXIf": encoded(exif=SIDEWAYS),
    "XMP": encoded(pnginfo=info("XML:com.adobe.xmp", XMP, zipped=False)),
    "compressed XMP": encoded(pnginfo=info("XML:com.adobe.xmp", XMP, zipped=True)),
    "raw profile": encoded(
        pnginfo=info("Raw profile type exif", f"\nexif\n99\n{SIDEWAYS.tobytes().hex()}", zipped=True)
    ),
    "eXIf behind the pixels": with_chunk(chunk(b"eXIf", SIDEWAYS.tobytes()[6:]), before=b"IEND"),
    "eXIf and damaged text": with_chunk(DAMAGED["a text with a wrong checksum"], encoded(exif=SIDEWAYS)),
    "XMP and damaged Exif": with_chunk(
        DAMAGED["Exif that is none"], encoded(pnginfo=info("XML:com.adobe.xmp", XMP, zipped=False))
    ),
}


@pytest.mark.parametrize("name", ORIENTED)
def test_an_orientation_that_can_be_read_is_kept(name: str) -> None:
    assert np.array_equal(pixels(ORIENTED[name]), np.asarray(NOISE.transpose(Image.Transpose.ROTATE_270)))


def test_exif_decides_where_xmp_contradicts_it() -> None:
    upright = Image.Exif()
    upright[0x0112] = 1
    data = encoded(exif=upright, pnginfo=info("XML:com.adobe.xmp", XMP, zipped=False))
    assert np.array_equal(pixels(data), np.asarray(NOISE))


def test_transparency_and_what_the_pixels_need_are_kept() -> None:
    palette = encoded(image=NOISE.quantize(16), transparency=bytes(range(16)), dpi=(72, 72))
    kept = drop_ancillary_chunks(palette)
    assert [name in kept for name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"pHYs")] == [True] * 5 + [False]
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_upright(with_chunk(chunk(b"tRNS", bytes(6), 0)))


def test_a_file_without_such_chunks_is_not_copied() -> None:
    for data in (encoded(), encoded("JPEG"), encoded()[:-30], b"\x89PNG\r\n\x1a\n", b"no image"):
        assert drop_ancillary_chunks(data) is data


def test_a_16_bit_image_keeps_its_upper_bits_even_if_it_uses_only_the_lower_12() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    data = with_chunk(chunk(b"sBIT", b"\x0c"), encoded(image=Image.fromarray(values)))
    assert np.array_equal(pixels(data)[..., 0], values >> 8)
    assert pixels(data).max() == 15
