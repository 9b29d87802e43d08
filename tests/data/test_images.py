"""Every command sees the same pixels, for any kind of file: those of a plain decode, or close to them."""

import functools
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms import functional

from data import images
from data.images import Preparation, fit, is_image_file, prepare, read_upright
from runtime.errors import ImageError
from support.strange_files import KINDS, make_strange

SMALL = Preparation((16, 12))
ORIENTATION = 0x0112
STORED = {  # how an upright image must be stored so that its orientation tag turns it back
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise(width: int = 48, height: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@functools.cache
def smooth(width: int, height: int) -> Image.Image:
    """Draw large soft shapes, as in faces."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 7 + y / height * 3), np.sin(y / height * 8), np.cos(x / width * 9 - y / height * 5)]
    return Image.fromarray((np.stack(waves, axis=-1) * 90 + 128).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"compress_level": 1} if kind == "PNG" else {}) | options)
    return buffer.getvalue()


def plain(data: bytes, preparation: Preparation) -> NDArray[np.uint8]:
    """Prepare an image with libraries only: Pillow decodes at full size, torchvision crops, Pillow resizes."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    if preparation.crop:
        height, width = preparation.crop
        image = functional.center_crop(image, [min(height, image.height), min(width, image.width)])
    return np.asarray(image.resize(preparation.size[::-1], Image.Resampling.BILINEAR))


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in decibels."""
    error = np.mean((first.astype(float) - second.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("size", [(384, 512), (97, 61), (12, 16), (5, 3)])
@pytest.mark.parametrize("crop", [None, (320, 256), (31, 16), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF", "AVIF"])
def test_without_draft_the_pixels_are_those_of_a_plain_decode(
    size: tuple[int, int], crop: tuple[int, int] | None, kind: str
) -> None:
    data, preparation = encoded(noise(*size), kind), Preparation((128, 96), crop)
    assert np.array_equal(prepare(data, preparation), plain(data, preparation))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_a_jpeg_that_is_too_small_for_draft_is_decoded_as_usual(options: dict[str, Any]) -> None:
    data, preparation = encoded(smooth(150, 200), "JPEG", quality=90, **options), Preparation((128, 96))
    assert np.array_equal(prepare(data, preparation), plain(data, preparation))


@pytest.mark.parametrize("size", [(384, 512), (385, 513), (1023, 767)])
@pytest.mark.parametrize("crop", [None, (320, 256), (321, 255), (512, 384)])
@pytest.mark.parametrize("target", [(128, 96), (64, 64), (57, 31)])
def test_draft_stays_close_to_a_plain_decode(
    size: tuple[int, int], crop: tuple[int, int] | None, target: tuple[int, int]
) -> None:
    data, preparation = encoded(smooth(*size), "JPEG", quality=95), Preparation(target, crop)
    assert psnr(prepare(data, preparation), plain(data, preparation)) >= 38


def test_draft_scales_as_far_as_possible_and_never_below_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[int] = []
    draft_scale = images._draft_scale

    def recorded(size: tuple[int, int], drafted: tuple[int, int]) -> int:
        scales.append(draft_scale(size, drafted))
        return scales[-1]

    monkeypatch.setattr(images, "_draft_scale", recorded)
    data = encoded(smooth(384, 512), "JPEG")
    for target, crop, scale in [
        ((512, 384), None, 1),
        ((257, 96), None, 1),
        ((256, 192), None, 2),
        ((256, 193), None, 1),
        ((128, 96), None, 4),
        ((129, 96), None, 2),
        ((64, 48), None, 8),
        ((8, 8), None, 8),
        ((128, 96), (320, 256), 2),
        ((128, 96), (127, 256), 1),
        ((128, 8), (511, 384), 2),
    ]:
        prepare(data, Preparation(target, crop))
        assert scales[-1] == scale, (target, crop)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_a_rotated_tiff_or_avif_is_turned_upright_once(kind: str, orientation: int) -> None:
    upright, turn, exif = smooth(60, 80), STORED[orientation], Image.Exif()
    exif[ORIENTATION] = orientation
    stored = upright.transpose(turn) if turn is not None else upright
    for options in [{"compression": "raw"}, {"compression": "tiff_lzw"}] if kind == "TIFF" else [{"quality": 95}]:
        found = prepare(encoded(stored, kind, exif=exif, **options), Preparation((40, 20), (70, 30)))
        expected = prepare(encoded(upright), Preparation((40, 20), (70, 30)))
        assert np.array_equal(found, expected) if kind == "TIFF" else psnr(found, expected) > 35


def test_only_the_first_frame_is_read() -> None:
    first, others = noise(8, 8).quantize(16), [noise(200, 200, seed).quantize(16) for seed in range(3)]
    data = encoded(first.resize((200, 200)), "GIF", save_all=True, append_images=others)
    whole = prepare(data, SMALL)
    assert np.array_equal(prepare(data[: len(data) // 3], SMALL), whole)
    pages = encoded(noise(), "TIFF", save_all=True, append_images=[noise(300, 300, seed) for seed in range(3)])
    assert np.array_equal(prepare(pages[: len(pages) // 3], SMALL), prepare(encoded(noise()), SMALL))


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float32, "floating-point pixels"), (np.int32, "pixels of 32 bits or with a sign")]
)
def test_a_tiff_of_numbers_of_no_known_range_is_rejected(dtype: type[np.number[Any]], kind: str) -> None:
    with pytest.raises(ImageError, match=rf"\({kind}, whose range is not known; save 8 or 16 bits\)"):
        prepare(encoded(Image.fromarray(np.ones((8, 8), dtype)), "TIFF"), SMALL)


def test_a_tiff_and_a_ppm_of_16_bits_keep_their_upper_8() -> None:
    grey = np.arange(0, 1 << 16, 1 << 8, dtype=np.uint16).reshape(16, 16) + 255
    ppm = b"P5 16 16 65535\n" + grey.astype(">u2").tobytes()
    for data in (encoded(Image.fromarray(grey), "TIFF"), ppm):
        assert np.array_equal(np.asarray(read_upright(data))[..., 0], grey >> 8)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("crop", [None, (400, 250)])
@pytest.mark.parametrize("size", [(384, 512), (385, 515)])
def test_a_rotated_image_is_turned_upright(
    orientation: int, crop: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    upright, preparation = smooth(*size), Preparation((64, 48), crop)
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = upright.transpose(turn) if turn is not None else upright
    exact = prepare(encoded(stored, "PNG", exif=exif), preparation)
    assert np.array_equal(exact, prepare(encoded(upright), preparation))
    drafted = prepare(encoded(stored, "JPEG", quality=98, exif=exif), preparation)
    assert psnr(drafted, prepare(encoded(upright, "JPEG", quality=98), preparation)) >= 45
    assert np.array_equal(np.asarray(read_upright(encoded(stored, "PNG", exif=exif))), np.asarray(upright))


def test_a_damaged_or_invalid_orientation_is_ignored() -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0")
    garbage = encoded(noise(), "JPEG", exif=b"Exif\0\0no tags here at all")
    expected = prepare(encoded(noise(), "JPEG"), SMALL)
    assert np.array_equal(prepare(data, SMALL), expected)
    assert np.array_equal(prepare(garbage, SMALL), expected)


@pytest.mark.filterwarnings("ignore")  # of Pillow, as in the decoding processes
@pytest.mark.parametrize("tag", [0x8769, 0x8825, 0x0112, 0x02BC])  # Exif, GPS, orientation, XMP
def test_damaged_metadata_of_a_tiff_is_ignored(tag: int) -> None:
    data = encoded(noise(), "TIFF", tiffinfo={tag: 1, 0x013B: "a name"} if tag != 0x02BC else {tag: b"<x:xmpmeta"})
    entry = data.index(struct.pack("<H", tag), 8, 200)  # among the entries, which come first
    damaged = data[: entry + 8] + struct.pack("<I", 99_999_999) + data[entry + 12 :]
    assert np.array_equal(prepare(damaged, SMALL), prepare(encoded(noise()), SMALL))


def gray16_image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (64, 48), dtype=np.uint16))


def gray16() -> tuple[bytes, Image.Image]:
    image = gray16_image()
    return encoded(image), Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


@functools.cache
def unusual_images() -> dict[str, tuple[bytes, Image.Image]]:
    """Return files that are not plain RGB, each with the image that it must decode to."""
    image = noise()
    palette, gray, cmyk = image.quantize(16), image.convert("L"), image.convert("CMYK")
    alpha = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 48), dtype=np.uint8))
    transparent = image.copy()
    transparent.putalpha(alpha)
    frames = {"save_all": True, "append_images": [noise(seed=2)]}
    deep = b"P5 48 64 65535\n" + np.full((64, 48), 0x12FF, ">u2").tobytes()
    return {
        "palette": (encoded(palette), palette),
        "palette with one transparent colour": (encoded(palette, transparency=3), palette),
        "palette with alpha per colour": (encoded(palette, transparency=bytes(range(16))), palette),
        "RGBA": (encoded(transparent), image),
        "RGBA WEBP": (encoded(transparent, "WEBP", lossless=True, exact=True), image),
        "RGB with a transparent colour": (encoded(image, transparency=(1, 2, 3)), image),
        "LA": (encoded(Image.merge("LA", (gray, alpha))), gray),
        "gray": (encoded(gray), gray),
        "gray with a transparent level": (encoded(gray, transparency=7), gray),
        "one bit": (encoded(image.convert("1")), image.convert("1")),
        "16-bit gray": gray16(),
        "16-bit PGM": (deep, Image.new("L", (48, 64), 0x12)),
        "animated PNG": (encoded(image, "PNG", **frames), image),
        "animated WEBP": (encoded(image, "WEBP", lossless=True, **frames), image),
        "gray JPEG": (data := encoded(gray, "JPEG"), Image.open(io.BytesIO(data))),
        "CMYK JPEG": (data := encoded(cmyk, "JPEG"), Image.open(io.BytesIO(data))),
        "GIF of two frames": (encoded(palette, "GIF", save_all=True, append_images=[image.quantize(16)]), palette),
        "GIF with one transparent colour": (encoded(palette, "GIF", transparency=3), palette),
        "TIFF of two pages": (encoded(image, "TIFF", compression="tiff_lzw", **frames), image),
        "16-bit TIFF": (encoded(gray16_image(), "TIFF"), gray16()[1]),
        "CMYK TIFF": (encoded(cmyk, "TIFF"), cmyk),
        "RGBA TIFF": (encoded(transparent, "TIFF"), image),
        "one bit TIFF": (encoded(image.convert("1"), "TIFF", compression="group4"), image.convert("1")),
        "two images in one JPEG": (
            encoded(image, "MPO", **frames),
            Image.open(io.BytesIO(encoded(image, "JPEG"))),
        ),
    }


@pytest.mark.parametrize("name", unusual_images())
def test_every_mode_becomes_three_channels_of_the_first_frame(name: str) -> None:
    data, expected = unusual_images()[name]
    pixels = prepare(data, Preparation((64, 48)))
    assert np.array_equal(pixels, np.asarray(expected.convert("RGB")))
    assert prepare(data, Preparation((17, 23), (32, 32))).shape == (17, 23, 3)


def test_the_format_is_read_from_the_content_and_not_from_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise()))
    assert np.array_equal(prepare(path, SMALL), prepare(path.read_bytes(), SMALL))


def test_an_image_in_memory_is_prepared_as_a_file_is() -> None:
    assert np.array_equal(fit(noise(), SMALL), prepare(encoded(noise()), SMALL))


SIDES, TARGETS = st.tuples(st.integers(1, 150), st.integers(1, 150)), st.tuples(st.integers(1, 64), st.integers(1, 64))


@settings(deadline=None)
@given(SIDES, st.none() | SIDES, TARGETS, st.sampled_from(["JPEG", "PNG"]), st.sampled_from(sorted(STORED)))
def test_any_size_and_crop_gives_the_target_size(
    size: tuple[int, int], crop: tuple[int, int] | None, target: tuple[int, int], kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data, preparation = encoded(smooth(*size), kind, exif=exif), Preparation(target, crop)
    assert prepare(data, preparation).shape == (*target, 3)


def test_a_preparation_can_be_written_to_json_and_read_back() -> None:
    for preparation in (Preparation(), Preparation((224, 224), (320, 256), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))):
        assert Preparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "a.JPG",
        "a.jpeg",
        "a.JPEG",
        "a.png",
        "a.ppm",
        "a.bmp",
        "a.webp",
        "b.c.WebP",
        "a.gif",
        "a.TIF",
        "a.tiff",
        "a.avif",
    ],
)
def test_an_image_file_is_known_by_its_extension_in_any_case(name: str) -> None:
    assert is_image_file(name)


@pytest.mark.parametrize("name", ["", "jpg", "a.txt", "a.jpg.part", "a.heic", "Thumbs.db"])
def test_a_file_with_another_extension_is_not_an_image_file(name: str) -> None:
    assert not is_image_file(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_regular_one_is_an_image_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    path = make_strange(tmp_path / "a.jpg", kind)
    with pytest.raises(ImageError, match=f": {path}$") as caught:
        prepare(path, SMALL)
    assert caught.value.code == ("too_large" if kind == "sparse" else "missing")
