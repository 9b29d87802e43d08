"""A hostile file costs no more than the limits of decoding, and no honest image exceeds them."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.decode_board import DecodeLimits
from data.decode_pool import DecodePool, SharedPixels
from data.images import MAX_PIXELS, Preparation, prepare
from runtime.errors import ImageError
from support.hostile_images import COSTLY, NOISE, encoded

PREPARATION = Preparation((16, 12))
GOOD = encoded("PNG")


def decode(folder: Path, files: dict[str, bytes], limits: DecodeLimits) -> tuple[SharedPixels, dict[str, ImageError]]:
    """Decode files in a pool; returns their pixels and the errors by name."""
    paths = [folder / name for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    target = SharedPixels.in_memory((len(paths), 16, 12, 3))
    pool = DecodePool(paths, PREPARATION, target, processes=2, limits=limits)
    pool.wait()
    return target, {paths[index].name: error for index, error in pool.bad.items()}


def test_a_costly_file_is_stopped_and_the_images_around_it_are_right(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number, (name, (build, _)) in enumerate(COSTLY.items()):
        files |= {f"good {number}": GOOD, name: build()}
    target, bad = decode(tmp_path, files, DecodeLimits(cpu_seconds=0.3, memory_mb=512))
    assert (target.array[::2] == prepare(GOOD, PREPARATION)).all()
    assert {name for name, error in bad.items() if error.code == "too_expensive"} == {
        name for name, (_, exceeds_limits) in COSTLY.items() if exceeds_limits
    }
    assert {error.code for error in bad.values()} <= {"too_expensive", "undecodable_image"}


def test_memory_is_limited_where_time_is_not(tmp_path: Path) -> None:
    build, _ = COSTLY["a wide PNG of 64 bits"]
    _, bad = decode(tmp_path, {"wide": build()}, DecodeLimits(memory_mb=256))
    assert str(bad["wide"]).startswith("needs more than the 256 MiB of memory allowed to decode: ")


def large(mode: str, kind: str, **options: object) -> bytes:
    """Return an image of just the most pixels allowed, with large soft shapes."""
    y, x = np.mgrid[0:7142, 0:7000]
    assert 0.999 < y.size / MAX_PIXELS <= 1
    gray = (x // 40 + y // 30).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) << 8)
    else:
        image = Image.fromarray(gray).convert("RGB").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("L", "PNG")),
        *(("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "BMP"), ("I;16", "PPM"), ("RGB", "WEBP"), ("RGBA", "WEBP")),
        *(("P", "GIF"), ("RGB", "TIFF"), ("CMYK", "TIFF"), ("RGB", "AVIF")),
    ],
)
def test_an_honest_image_of_50_megapixels_is_within_the_default_limits(tmp_path: Path, mode: str, kind: str) -> None:
    fast: dict[str, Any] = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}, "AVIF": {"speed": 10}}
    options: dict[str, Any] = {"TIFF": {"compression": "tiff_lzw"}, **fast}.get(kind, {})
    target, bad = decode(tmp_path, {"large": large(mode, kind, **options)}, DecodeLimits())
    assert bad == {}
    assert target.array.any()


def test_every_ordinary_kind_of_file_is_decoded(tmp_path: Path) -> None:
    files = {
        "JPEG": encoded("JPEG"),
        "grey": encoded("JPEG", NOISE.convert("L")),
        "CMYK": encoded("JPEG", NOISE.convert("CMYK")),
        "WebP": encoded("WEBP"),
        "BMP": encoded("BMP"),
        "GIF": encoded("GIF"),
        "AVIF": encoded("AVIF"),
        "TIFF": encoded("TIFF"),
        "TIFF with LZW": encoded("TIFF", compression="tiff_lzw"),
        "PPM": encoded("PPM"),
        "PGM of 16 bits": encoded("PPM", Image.fromarray(np.full((9, 9), 40_000, np.uint16))),
        "PBM": encoded("PPM", NOISE.convert("1")),
        "a PPM in letters": b"P3\n8 8\n255\n" + b"9 " * 192,
        "a PPM with a comment": b"P6\n# drawn\n8 8 # size\n255\n" + bytes(192),
    }
    target, bad = decode(tmp_path, files, DecodeLimits())
    assert bad == {}
    assert np.array_equal(target.array, np.stack([prepare(data, PREPARATION) for data in files.values()]))


def test_an_image_that_is_stopped_leaves_no_process_and_no_core_file(tmp_path: Path) -> None:
    build, _ = COSTLY["a comment inside a number"]
    decode(tmp_path, {"comment": build()}, DecodeLimits(cpu_seconds=0.1))
    assert os.listdir(tmp_path) == ["comment"]  # noqa: PTH208
