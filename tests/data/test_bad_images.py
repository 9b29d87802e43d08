"""A file that is not an image, is damaged, or is a decompression bomb raises ImageError with a code, nothing else."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFile

from data import images
from data.images import MAX_PIXELS, Preparation, prepare
from runtime.errors import ImageError
from support.hostile_images import BOMBS, NOISE, encoded, header, png

SMALL = Preparation((16, 12))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_rejected_before_a_pixel_is_decoded(
    name: str, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(name))
    assert len(BOMBS[name]) < 20_000
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        with pytest.raises(ImageError, match=f"more than the {MAX_PIXELS} pixels") as caught:
            prepare(BOMBS[name], SMALL)
    assert caught.value.code == "too_large"
    assert decoded == []


GOOD = encoded("JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is a text file\n" * 50, "none of JPEG, PNG, WEBP, BMP, PPM, GIF, TIFF, AVIF"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (GOOD[:30], "cannot be read as an image"),
        (encoded("PNG")[:-40], "cannot be read as an image"),
        (encoded("ICO"), "none of JPEG"),
        (encoded("TGA"), "none of JPEG"),
        (encoded("GIF")[:-40], "cannot be read as an image"),
        (encoded("AVIF")[:-40], "cannot be read as an image"),
        (encoded("TIFF")[:300], "cannot be read as an image"),
        (png(8, 8, b"")[:40], "cannot be read as an image"),
        (
            header(b"\x89PNG\r\n\x1a\n", (b"zTXt", b"key\0\0" + zlib.compress(bytes(10**7)))),
            "cannot be read as an image",
        ),
    ],
)
def test_an_incomplete_image_is_an_error_of_one_line_that_ends_with_its_path(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask1.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        prepare(path, SMALL)
    assert caught.value.code == "undecodable_image"
    assert str(caught.value).endswith(f": {path}")
    assert "\n" not in str(caught.value)


def test_empty_missing_and_too_large_files_have_messages_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    cases: list[tuple[Path | bytes, str, str]] = [
        (empty, "an empty file is not an image", "empty"),
        (b"", "an empty file is not an image: the image", "empty"),
        (tmp_path / "absent.jpg", "cannot be opened (No such file or directory)", "missing"),
        (tmp_path, "cannot be opened (Is a directory)", "missing"),
        (bytes(101), "101 bytes are more than the 100 allowed", "too_large"),
    ]
    for source, sentence, code in cases:
        with pytest.raises(ImageError) as caught:
            prepare(source, SMALL)
        assert str(caught.value).startswith(sentence)
        assert caught.value.code == code


def test_running_out_of_memory_is_not_blamed_on_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError):
        prepare(GOOD, SMALL)


def test_damaged_files_are_images_or_image_errors_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    originals = [GOOD, encoded("PNG"), encoded("WEBP"), encoded("PNG", NOISE.quantize(16))]
    rejected = 0
    for turn in range(2000):
        data = bytearray(originals[turn % len(originals)])
        for offset in random.integers(0, len(data), random.integers(1, 8)):
            data[offset] = random.integers(256)
        del data[random.integers(len(data) // 2, 2 * len(data)) :]
        try:
            assert prepare(bytes(data), SMALL).shape == (16, 12, 3)
        except ImageError:
            rejected += 1
    assert 100 < rejected < 2000
