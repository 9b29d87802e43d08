"""signatures.py: what an image is averaged to, and what changes it."""

import numpy as np
import pytest
from PIL import Image

from data.images import Pixels
from data.signatures import SIDE, chunks, coefficients_of, mirrored, signatures_of
from support.smooth_images import smooth_image


def one(image: Image.Image) -> Pixels:
    signature: Pixels = signatures_of(np.asarray(image)[None])[0]
    return signature


@pytest.mark.parametrize("size", [(24, 24), (96, 96), (224, 160), (97, 25)])
def test_a_signature_is_the_image_averaged_as_pillow_does(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    expected = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.int64)
    if size[0] % SIDE == size[1] % SIDE == 0:  # Pillow leaves pixels whole, a signature divides them
        assert np.abs(one(image) - expected).max() <= 1
    assert abs(float(one(image).mean()) - float(np.asarray(image).mean())) < 0.6


def test_an_image_smaller_than_its_signature_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 12, 8, 3), dtype=np.uint8)
    assert np.array_equal(signatures_of(pixels), pixels.repeat(2, 1).repeat(3, 2))


def test_many_images_are_averaged_as_one_is() -> None:
    pixels = np.stack([np.asarray(smooth_image(number)) for number in range(5)])
    together = signatures_of(pixels).astype(np.int64)
    for pixel, signature in zip(pixels, together, strict=True):
        assert np.abs(signatures_of(pixel[None])[0] - signature).max() <= 1


def test_a_mirrored_signature_is_that_of_the_mirrored_image() -> None:
    image = smooth_image(3)
    turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.abs(mirrored(one(image)[None])[0].astype(np.int64) - one(turned)).max() <= 1


def test_coefficients_are_those_of_scipys_transform_and_leave_out_brightness() -> None:
    fft = pytest.importorskip("scipy.fft")
    signatures = np.stack([one(smooth_image(number)) for number in range(4)])
    found = coefficients_of(signatures)
    luma = fft.dctn(signatures.astype(np.float64).mean(-1), type=2, axes=(1, 2)) / (4 * SIDE * SIDE)
    assert found.shape == (4, 64)
    assert np.allclose(found[:, :48], luma[:, :7, :7].reshape(4, -1)[:, 1:], atol=1e-3)
    assert np.allclose(found[:, :48], coefficients_of(signatures // 2 + 60)[:, :48] * 2, atol=1.0)


def test_chunks_cover_everything_once() -> None:
    for count, size in ((0, 3), (1, 3), (7, 3), (9, 3)):
        assert [index for part in chunks(count, size) for index in range(count)[part]] == list(range(count))
