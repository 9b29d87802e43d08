"""Each random transform equals torchvision's with the same parameters, and each image draws its own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from data import batch_draws, batch_transforms
from data.batch_draws import Draws, affine_matrix, color_change, erased_patches, noise_seeds, uniform
from data.batch_transforms import add_noise, erase, in_blocks, mean_gray, recolor, warp
from runtime.devices import send

NO_COLOR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
NO_MOTION = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "shift": 0.0, "crop": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[0.0, 1.0], ids=["low", "high"])
def extreme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Make every draw the lowest number, or the highest; return -1 or 1."""
    monkeypatch.setattr(
        batch_draws, "uniform", lambda count, low, high, _: torch.full((count,), low + (high - low) * request.param)
    )
    return 2 * float(request.param) - 1


def blocks(count: int = 3, low: int = 80, high: int = 160) -> Tensor:
    """Return images (count, 3, 32, 24) of 4 x 4 blocks, far enough from black and white that nothing is clipped."""
    small = torch.randint(low, high, (count, 3, 8, 6), generator=generator(1), dtype=torch.uint8)
    return small.repeat_interleave(4, 2).repeat_interleave(4, 3)


def recolored(pixels: Tensor, **spreads: float) -> Tensor:
    matrix, gray = color_change(len(pixels), **(NO_COLOR | spreads), generator=generator())
    bias = gray * mean_gray(pixels)
    return torch.einsum("bij,bjhw->bihw", matrix, pixels / 255) + bias[:, None, None, None]


def transformed(pixels: Tensor, **spreads: float) -> Tensor:
    matrix = affine_matrix(len(pixels), pixels.shape[2:], **(NO_MOTION | spreads), generator=generator())
    return warp(pixels, matrix)


def erased(images: Tensor, probability: float) -> Tensor:
    return erase(images.clone(), erased_patches(len(images), images.shape[2:], probability, generator()))


def noisy(images: Tensor, std: float) -> Tensor:
    return add_noise(images.clone(), std, noise_seeds(len(images), generator()))


def test_numbers_are_drawn_uniformly_between_the_bounds() -> None:
    numbers = uniform(10_000, -2.0, 3.0, generator())
    assert numbers.min() >= -2
    assert numbers.max() < 3
    assert torch.histc(numbers, 10, -2, 3).sub(1000).abs().max() < 150


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_colour_change_equals_that_of_torchvision(extreme: float, name: str) -> None:
    pixels = blocks()
    expected = getattr(functional, f"adjust_{name}")(pixels / 255, 1 + 0.2 * extreme)
    torch.testing.assert_close(recolored(pixels, **{name: 0.2}), expected, rtol=0, atol=0.5 / 255)


def test_colour_changes_are_applied_in_the_order_brightness_contrast_saturation(extreme: float) -> None:
    pixels = blocks()
    expected = pixels / 255
    for name in ("brightness", "contrast", "saturation"):
        expected = getattr(functional, f"adjust_{name}")(expected, 1 + 0.2 * extreme)
    found = recolored(pixels, brightness=0.2, contrast=0.2, saturation=0.2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.5 / 255)


def test_hue_rotates_colours_in_the_direction_of_torchvision(extreme: float) -> None:
    """Rotate at equal luma, where torchvision rotates at equal value (HSV): close for small angles, not equal."""
    pixels = blocks()
    ours = recolored(pixels, hue=0.03) - pixels / 255
    theirs = functional.adjust_hue(pixels / 255, 0.03 * extreme) - pixels / 255
    cosine = (ours * theirs).sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1)).clamp(min=1e-6)
    assert cosine.mean() > 0.6
    assert 0.7 < ours.norm() / theirs.norm() < 1.4


def test_hue_changes_neither_grey_nor_luma() -> None:
    luma = torch.tensor((0.299, 0.587, 0.114))
    gray = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    torch.testing.assert_close(recolored(gray, hue=0.5), gray / 255)
    pixels = blocks()
    before, after = (torch.einsum("bchw,c->bhw", images, luma) for images in (pixels / 255, recolored(pixels, hue=0.5)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_flip_mirrors_every_pixel() -> None:
    pixels = torch.randint(0, 256, (4, 3, 16, 12), generator=generator(), dtype=torch.uint8)
    assert torch.equal(transformed(pixels, flip=1.0).round(), pixels.flip(3).float())
    assert torch.equal(transformed(pixels).round(), pixels.float())


@pytest.mark.parametrize(
    "spreads",
    [{"rotate": 20.0}, {"scale": 0.2}, {"shift": 0.1}, {"rotate": 20.0, "scale": 0.2, "shift": 0.1}],
    ids=["rotate", "scale", "shift", "all"],
)
def test_an_affine_transform_equals_that_of_torchvision(extreme: float, spreads: dict[str, float]) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 48), generator=generator(), dtype=torch.uint8)
    angle, scale = spreads.get("rotate", 0) * extreme, 1 + spreads.get("scale", 0) * extreme
    across, down = (-scale * size * spreads.get("shift", 0) * extreme for size in (48, 64))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    expected = functional.affine(
        pixels.float(),
        angle=-angle,
        translate=[across * cos + down * sin, down * cos - across * sin],
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    inner = (..., slice(26, 38), slice(20, 28))  # outside the image, ours is mirrored and torchvision's black
    torch.testing.assert_close(transformed(pixels, **spreads)[inner], expected[inner], rtol=0, atol=0.05)


@pytest.mark.parametrize(("left", "top"), [(-1.0, -1.0), (1.0, 1.0), (-1 / 3, 0.5)])
def test_a_random_crop_equals_that_of_torchvision(left: float, top: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 48), generator=generator(), dtype=torch.uint8)
    area, ratio = (27 / 48) * (48 / 64), (27 / 48) / (48 / 64)  # a box of 27 x 48 pixels
    drawn = iter((0.0, 1.0, 0.0, 0.0, area, math.log(ratio), left, top))
    monkeypatch.setattr(batch_draws, "uniform", lambda count, *_: torch.full((count,), next(drawn)))
    box = round((left + 1) / 2 * (48 - 27)), round((top + 1) / 2 * (64 - 48))
    expected = functional.resized_crop(
        pixels.float(), box[1], box[0], 48, 27, [64, 48], InterpolationMode.BILINEAR, antialias=False
    )
    inner = (..., slice(1, -1), slice(1, -1))  # torchvision does not read pixels outside the box
    torch.testing.assert_close(transformed(pixels)[inner], expected[inner], rtol=0, atol=0.05)


def test_a_crop_stays_within_its_area_its_aspect_ratio_and_the_image() -> None:
    matrix = affine_matrix(4000, (32, 24), **(NO_MOTION | {"crop": 0.92}), generator=generator())
    wide, tall = matrix[:, 0, 0], matrix[:, 1, 1]
    assert (wide * tall).min() > 0.079
    assert wide.max() <= 1
    assert tall.max() <= 1
    assert (wide / tall).max() < 4 / 3 + 1e-4
    for side, middle in ((wide, matrix[:, 0, 2]), (tall, matrix[:, 1, 2])):
        assert (middle.abs() + side).max() < 1 + 1e-5, "the box lies within the image"


def test_a_flip_combines_with_the_other_transforms() -> None:
    pixels, spreads = blocks(), {"rotate": 20.0, "scale": 0.2, "shift": 0.1}
    torch.testing.assert_close(
        transformed(pixels, flip=1.0, **spreads), transformed(pixels, **spreads).flip(3), rtol=0, atol=1e-2
    )


def test_pixels_from_outside_the_image_are_mirrored_and_never_black() -> None:
    bright = torch.full((8, 3, 16, 12), 200, dtype=torch.uint8)
    found = transformed(bright, rotate=180.0, scale=0.9, shift=1.0)
    torch.testing.assert_close(found, bright.float())


def test_every_image_of_a_batch_has_parameters_of_its_own() -> None:
    pixels = blocks(1).expand(64, -1, -1, -1)
    matrix, gray = color_change(64, 0.2, 0.2, 0.2, 0.1, generator=generator())
    bias = (gray * mean_gray(pixels)).unsqueeze(1)
    motion = affine_matrix(64, (32, 24), 0.5, 10.0, 0.1, 0.1, 0.5, generator=generator())
    for parameters in (matrix, bias, motion):
        assert len(np.unique(parameters.flatten(1).numpy(), axis=0)) == 64


def test_images_are_flipped_with_the_given_probability() -> None:
    matrix = affine_matrix(4000, (32, 24), **(NO_MOTION | {"flip": 0.5}), generator=generator())
    assert 1850 < (matrix[:, 0, 0] < 0).sum() < 2150


def test_erasing_blanks_one_patch_of_two_to_twenty_percent_and_nothing_else() -> None:
    images = torch.rand((200, 3, 60, 50), generator=generator()) + 1
    found = erased(images, 1.0)
    blank = (found == 0).all(1)  # (batch, height, width)
    assert torch.equal(found[~blank.unsqueeze(1).expand_as(images)], images[~blank.unsqueeze(1).expand_as(images)])
    area_share = blank.float().mean((1, 2))
    assert area_share.min() > 0.01
    assert area_share.max() < 0.22
    heights, widths = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(heights * widths, blank.sum((1, 2)))  # a rectangle
    assert len(np.unique(area_share.numpy())) > 50


def test_erasing_hits_images_with_its_probability() -> None:
    images = torch.ones((2000, 3, 20, 20))
    assert torch.equal(erased(images, 0.0), images)
    hit = (erased(images, 0.25) == 0).flatten(1).any(1).sum()
    assert 430 < hit < 570


def test_an_erased_patch_equals_that_of_torchvision(extreme: float) -> None:
    images = torch.rand((3, 3, 60, 50), generator=generator())
    area, ratio = (0.2, 3.3) if extreme > 0 else (0.02, 0.3)
    tall, wide = min(60 * math.sqrt(area * ratio), 60), min(50 * math.sqrt(area / ratio), 50)
    top, left = (60 - tall, 50 - wide) if extreme > 0 else (0.0, 0.0)
    corners = [round(side) for side in (top, left, top + tall, left + wide)]
    size = corners[2] - corners[0], corners[3] - corners[1]
    expected = functional.erase(images, corners[0], corners[1], *size, v=torch.zeros(1))
    assert torch.equal(erased(images, 1.0), expected)


def test_noise_has_the_distribution_of_torchvision() -> None:
    images = torch.zeros((20, 3, 40, 30))
    ours = noisy(images, 0.3).flatten().sort().values
    theirs = functional.gaussian_noise(images, 0.0, 0.3, clip=False).flatten().sort().values
    torch.testing.assert_close(ours[700:-700], theirs[700:-700], rtol=0, atol=0.03)
    assert len(np.unique(noisy(images, 0.3).flatten(1).numpy(), axis=0)) == 20


@pytest.mark.parametrize("cpus", [1, 2, 7])
def test_noise_does_not_depend_on_the_number_of_threads(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = noisy(torch.zeros((20, 3, 8, 8)), 1.0)
    monkeypatch.setattr(batch_transforms, "cpu_count", lambda: cpus)
    assert torch.equal(noisy(torch.zeros((20, 3, 8, 8)), 1.0), expected)


@pytest.mark.parametrize("size", [(32, 24), (15, 13)])
def test_processing_in_blocks_does_not_change_any_image(size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (20, 3, *size), generator=generator(), dtype=torch.uint8)
    matrix, bias = torch.rand((20, 3, 3), generator=generator()), torch.rand((20, 3), generator=generator())
    found = in_blocks(recolor, pixels, matrix, bias)
    expected = torch.einsum("bij,bjhw->bihw", matrix, pixels.float()) + bias[:, :, None, None]
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    motion = affine_matrix(20, size, 0.5, 20.0, 0.2, 0.1, 0.5, generator=generator())
    alone = [warp(pixels[index : index + 1], motion[index : index + 1]) for index in range(20)]
    torch.testing.assert_close(in_blocks(warp, pixels, motion), torch.cat(alone))


def test_draws_reach_the_device_in_one_copy_with_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Tensor] = []

    def spy(tensor: Tensor, device: torch.device) -> Tensor:
        sent.append(tensor)
        return send(tensor, device)

    monkeypatch.setattr(batch_draws, "send", spy)
    numbers = torch.rand((5, 3, 3), generator=generator())
    tensors = {
        "numbers": numbers,
        "transposed": numbers.transpose(1, 2)[:, :2],
        "counts": torch.arange(5),
        "none": torch.zeros((0, 4)),
        "one": torch.tensor(3.5, dtype=torch.float64),
    }
    found = Draws(tensors, (7, 8)).to(torch.device("cpu"))
    assert found.noise_seeds == (7, 8)
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype is tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    assert len(sent) == 1
    assert sent[0].is_contiguous(), "a strided tensor would take another copy on its way to a GPU"


def test_an_erased_batch_equals_one_whose_patches_are_erased_one_by_one() -> None:
    images = torch.rand((30, 3, 20, 15), generator=generator()).sub(0.5).to(memory_format=torch.channels_last)
    patches = erased_patches(30, (20, 15), 0.5, generator())
    expected = images.clone()
    for image, (top, left, bottom, right) in zip(expected, patches.tolist(), strict=True):
        image[:, top:bottom, left:right] = 0
    found = erase(images, patches)
    assert found is images
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), "zeros have no sign"
