"""An image of any shape comes to the size of the model as torchvision (crop) and Pillow (pad) would bring it there."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms import functional

from data import images
from data.fitting import FITS, Fitting
from data.images import IMAGENET_MEAN, Preparation, prepare

SHAPES = [(384, 512), (97, 61), (61, 97), (12, 16), (5, 3), (300, 7), (7, 300), (96, 96), (1, 1)]
TARGETS = [(128, 96), (64, 64), (57, 31)]
FILL = (124, 116, 104)  # of the mean of ImageNet
SIDES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def drawn(width: int, height: int) -> Image.Image:
    """Draw large soft shapes with some noise."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 7 + y / height * 3), np.sin(y / height * 8), np.cos(x / width * 9 - y / height * 5)]
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    return Image.fromarray((np.stack(waves, axis=-1) * 90 + 128 + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def center_crop(image: Image.Image, crop: tuple[int, int] | None) -> Image.Image:
    if crop is None:
        return image
    cropped: Image.Image = functional.center_crop(image, [min(crop[0], image.height), min(crop[1], image.width)])
    return cropped


def resized_and_cropped(image: Image.Image, target: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what torchvision's Resize and CenterCrop make; Resize by the side that is shorter for the target."""
    height, width = target
    if height == width:
        scaled = functional.resize(image, [height])  # bilinear, antialiased
    elif image.width * height <= image.height * width:
        scaled = functional.resize(image, [int(width * image.height / image.width), width])
    else:
        scaled = functional.resize(image, [height, int(height * image.width / image.height)])
    return np.asarray(functional.center_crop(scaled, [height, width]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("crop", [None, (40, 90)])
def test_crop_is_torchvisions_resize_and_center_crop(
    shape: tuple[int, int], target: tuple[int, int], crop: tuple[int, int] | None
) -> None:
    image = drawn(*shape)
    found = prepare(encoded(image), Preparation(target, crop, fit="crop"))
    expected = resized_and_cropped(center_crop(image, crop), target)
    # The filter is the same; its coefficients are rounded at other coordinates.
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("crop", [None, (40, 90)])
def test_pad_is_pillows_pad_with_the_mean_colour(
    shape: tuple[int, int], target: tuple[int, int], crop: tuple[int, int] | None
) -> None:
    image = drawn(*shape)
    found = prepare(encoded(image), Preparation(target, crop, IMAGENET_MEAN, fit="pad"))
    expected = ImageOps.pad(center_crop(image, crop), target[::-1], Image.Resampling.BILINEAR, color=FILL)
    assert np.array_equal(found, np.asarray(expected))


def test_a_shape_that_is_that_of_the_model_is_the_same_for_every_fit() -> None:
    data = encoded(drawn(75, 100))
    found = [prepare(data, Preparation((64, 48), fit=fit)) for fit in FITS]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_line_of_one_pixel_keeps_a_pixel_and_is_not_enlarged_in_memory() -> None:
    data = encoded(Image.new("RGB", (40_000, 1), (200, 0, 0)))
    padded = prepare(data, Preparation((32, 32), fit="pad"))
    assert (padded == (200, 0, 0)).all(2).any(1).sum() == 1
    assert (prepare(data, Preparation((32, 32), fit="crop")) == (200, 0, 0)).all()  # scaled whole: 32 x 1,280,000


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from(FITS))
def test_the_whole_of_a_fitting_covers_or_is_contained(
    size: tuple[int, int], target: tuple[int, int], fit: str
) -> None:
    fitting = Fitting.of(size, target, fit)
    sides = list(zip(fitting.scaled, target, strict=True))
    assert any(scaled == wanted for scaled, wanted in sides)
    if fit == "crop":
        assert all(scaled >= wanted for scaled, wanted in sides)
    if fit == "pad":
        assert all(1 <= scaled <= wanted for scaled, wanted in sides)
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    if fit != "crop":
        assert fitting.source_box(box) == box


@settings(deadline=None)
@given(SIDES, st.none() | SIDES, st.tuples(st.integers(1, 64), st.integers(1, 64)), st.sampled_from(FITS))
def test_any_size_and_crop_gives_the_target_size(
    size: tuple[int, int], crop: tuple[int, int] | None, target: tuple[int, int], fit: str
) -> None:
    data = encoded(drawn(*size), "JPEG")
    assert prepare(data, Preparation(target, crop, fit=fit)).shape == (*target, 3)


@pytest.mark.parametrize(
    ("fit", "target", "scale"),
    [
        ("crop", (128, 96), 4),
        ("crop", (128, 97), 2),  # covers with 97 x 129
        ("crop", (64, 64), 4),  # covers with 64 x 85: at 1/8 the image has 48 x 64
        ("pad", (64, 64), 8),  # fits in with 48 x 64
        ("pad", (65, 64), 4),
        ("pad", (512, 8), 8),  # fits in with 8 x 11
        ("crop", (512, 8), 1),
    ],
)
def test_draft_never_scales_below_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, fit: str, target: tuple[int, int], scale: int
) -> None:
    scales: list[int] = []
    draft_scale = images._draft_scale

    def recorded(size: tuple[int, int], drafted: tuple[int, int]) -> int:
        scales.append(draft_scale(size, drafted))
        return scales[-1]

    monkeypatch.setattr(images, "_draft_scale", recorded)
    prepare(encoded(drawn(384, 512), "JPEG"), Preparation(target, fit=fit))
    assert scales == [scale]


@pytest.mark.parametrize("fit", FITS[1:])
@pytest.mark.parametrize("crop", [None, (400, 250)])
@pytest.mark.parametrize(
    ("orientation", "turn"), [(6, Image.Transpose.ROTATE_90), (2, Image.Transpose.FLIP_LEFT_RIGHT)]
)
def test_a_rotated_image_is_fitted_upright(
    fit: str, crop: tuple[int, int] | None, orientation: int, turn: Image.Transpose
) -> None:
    upright, preparation = drawn(385, 515), Preparation((48, 64), crop, fit=fit)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(upright.transpose(turn), "PNG", exif=exif)
    expected = prepare(encoded(upright), preparation)
    assert np.array_equal(prepare(stored, preparation), expected)
    drafted = prepare(encoded(upright.transpose(turn), "JPEG", quality=98, exif=exif), preparation)
    assert np.abs(drafted.astype(int) - expected).mean() < 3
