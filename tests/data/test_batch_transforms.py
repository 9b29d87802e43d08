"""Each random change is what torchvision makes of the same numbers, and each sample draws its own."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from data import batch_transforms as transforms
from data.batch_transforms import (
    Mixer,
    add_noise,
    affine_matrix,
    color_matrix,
    in_blocks,
    random_erase,
    recolor,
    uniform,
    warp,
)

NO_COLOR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
NO_MOTION = {"flip": 0.0, "rotate": 0.0, "scale": 0.0, "shift": 0.0, "crop": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[0.0, 1.0], ids=["low", "high"])
def extreme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Every number that is drawn is the lowest, or the highest; returns -1 or 1."""
    monkeypatch.setattr(
        transforms, "uniform", lambda count, low, high, _: torch.full((count,), low + (high - low) * request.param)
    )
    return 2 * float(request.param) - 1


def blocks(count: int = 3, low: int = 80, high: int = 160) -> Tensor:
    """Images (count, 3, 32, 24) of 4 x 4 blocks, far enough from black and white that nothing is clipped."""
    small = torch.randint(low, high, (count, 3, 8, 6), generator=generator(1), dtype=torch.uint8)
    return small.repeat_interleave(4, 2).repeat_interleave(4, 3)


def recolored(pixels: Tensor, **spreads: float) -> Tensor:
    matrix, bias = color_matrix(pixels, **(NO_COLOR | spreads), generator=generator())
    return torch.einsum("bij,bjhw->bihw", matrix, pixels / 255) + bias[:, :, None, None]


def moved(pixels: Tensor, **spreads: float) -> Tensor:
    matrix = affine_matrix(len(pixels), pixels.shape[2:], **(NO_MOTION | spreads), generator=generator())
    return warp(pixels, matrix)


def test_numbers_are_drawn_evenly_between_the_bounds() -> None:
    numbers = uniform(10_000, -2.0, 3.0, generator())
    assert numbers.min() >= -2
    assert numbers.max() < 3
    assert torch.histc(numbers, 10, -2, 3).sub(1000).abs().max() < 150


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_colour_change_is_that_of_torchvision(extreme: float, name: str) -> None:
    pixels = blocks()
    expected = getattr(functional, f"adjust_{name}")(pixels / 255, 1 + 0.2 * extreme)
    torch.testing.assert_close(recolored(pixels, **{name: 0.2}), expected, rtol=0, atol=0.5 / 255)


def test_colour_changes_come_in_the_order_brightness_contrast_saturation(extreme: float) -> None:
    pixels = blocks()
    expected = pixels / 255
    for name in ("brightness", "contrast", "saturation"):
        expected = getattr(functional, f"adjust_{name}")(expected, 1 + 0.2 * extreme)
    found = recolored(pixels, brightness=0.2, contrast=0.2, saturation=0.2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.5 / 255)


def test_hue_turns_colours_the_way_torchvision_does(extreme: float) -> None:
    """Ours turns a colour around grey at equal luma, torchvision's at equal value: near for small turns, not equal."""
    pixels = blocks()
    ours = recolored(pixels, hue=0.03) - pixels / 255
    theirs = functional.adjust_hue(pixels / 255, 0.03 * extreme) - pixels / 255
    cosine = (ours * theirs).sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1)).clamp(min=1e-6)
    assert cosine.mean() > 0.6
    assert 0.7 < ours.norm() / theirs.norm() < 1.4


def test_hue_leaves_grey_and_brightness_as_they_are() -> None:
    luma = torch.tensor((0.299, 0.587, 0.114))
    gray = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    torch.testing.assert_close(recolored(gray, hue=0.5), gray / 255)
    pixels = blocks()
    before, after = (torch.einsum("bchw,c->bhw", images, luma) for images in (pixels / 255, recolored(pixels, hue=0.5)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_flip_mirrors_every_pixel() -> None:
    pixels = torch.randint(0, 256, (4, 3, 16, 12), generator=generator(), dtype=torch.uint8)
    assert torch.equal(moved(pixels, flip=1.0).round(), pixels.flip(3).float())
    assert torch.equal(moved(pixels).round(), pixels.float())


@pytest.mark.parametrize(
    "spreads",
    [{"rotate": 20.0}, {"scale": 0.2}, {"shift": 0.1}, {"rotate": 20.0, "scale": 0.2, "shift": 0.1}],
    ids=["rotate", "scale", "shift", "all"],
)
def test_a_motion_is_that_of_torchvision(extreme: float, spreads: dict[str, float]) -> None:
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
    inner = (..., slice(26, 38), slice(20, 28))  # what lies outside the image is mirrored here and black there
    torch.testing.assert_close(moved(pixels, **spreads)[inner], expected[inner], rtol=0, atol=0.05)


@pytest.mark.parametrize(("left", "top"), [(-1.0, -1.0), (1.0, 1.0), (-1 / 3, 0.5)])
def test_a_random_crop_is_that_of_torchvision(left: float, top: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 48), generator=generator(), dtype=torch.uint8)
    area, ratio = (27 / 48) * (48 / 64), (27 / 48) / (48 / 64)  # a part of 27 x 48 pixels
    drawn = iter((0.0, 1.0, 0.0, 0.0, area, math.log(ratio), left, top))
    monkeypatch.setattr(transforms, "uniform", lambda count, *_: torch.full((count,), next(drawn)))
    box = round((left + 1) / 2 * (48 - 27)), round((top + 1) / 2 * (64 - 48))
    expected = functional.resized_crop(
        pixels.float(), box[1], box[0], 48, 27, [64, 48], InterpolationMode.BILINEAR, antialias=False
    )
    inner = (..., slice(1, -1), slice(1, -1))  # beyond the edge of its part torchvision sees nothing
    torch.testing.assert_close(moved(pixels)[inner], expected[inner], rtol=0, atol=0.05)


def test_a_crop_keeps_its_share_of_the_image_and_nearly_its_shape() -> None:
    matrix = affine_matrix(4000, (32, 24), **(NO_MOTION | {"crop": 0.92}), generator=generator())
    wide, tall = matrix[:, 0, 0], matrix[:, 1, 1]
    assert (wide * tall).min() > 0.079
    assert wide.max() <= 1
    assert tall.max() <= 1
    assert (wide / tall).max() < 4 / 3 + 1e-4
    for side, middle in ((wide, matrix[:, 0, 2]), (tall, matrix[:, 1, 2])):
        assert (middle.abs() + side).max() < 1 + 1e-5, "it does not reach outside"


def test_a_flip_comes_on_top_of_the_other_motions() -> None:
    pixels, spreads = blocks(), {"rotate": 20.0, "scale": 0.2, "shift": 0.1}
    torch.testing.assert_close(moved(pixels, flip=1.0, **spreads), moved(pixels, **spreads).flip(3), rtol=0, atol=1e-2)


def test_what_comes_from_outside_the_image_is_mirrored_and_never_black() -> None:
    bright = torch.full((8, 3, 16, 12), 200, dtype=torch.uint8)
    found = moved(bright, rotate=180.0, scale=0.9, shift=1.0)
    torch.testing.assert_close(found, bright.float())


def test_every_sample_of_a_batch_is_changed_by_numbers_of_its_own() -> None:
    pixels = blocks(1).expand(64, -1, -1, -1)
    matrix, bias = color_matrix(pixels, 0.2, 0.2, 0.2, 0.1, generator=generator())
    motion = affine_matrix(64, (32, 24), 0.5, 10.0, 0.1, 0.1, 0.5, generator=generator())
    for parameters in (matrix, bias, motion):
        assert len(parameters.flatten(1).unique(dim=0)) == 64


def test_half_the_images_are_flipped_at_a_half_chance() -> None:
    matrix = affine_matrix(4000, (32, 24), **(NO_MOTION | {"flip": 0.5}), generator=generator())
    assert 1850 < (matrix[:, 0, 0] < 0).sum() < 2150


def test_erasing_blanks_one_patch_of_two_to_twenty_percent_and_keeps_everything_else() -> None:
    images = torch.rand((200, 3, 60, 50), generator=generator()) + 1
    erased = random_erase(images.clone(), 1.0, generator())
    blank = (erased == 0).all(1)  # (batch, height, width)
    assert torch.equal(erased[~blank.unsqueeze(1).expand_as(images)], images[~blank.unsqueeze(1).expand_as(images)])
    share = blank.float().mean((1, 2))
    assert share.min() > 0.01
    assert share.max() < 0.22
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(rows * columns, blank.sum((1, 2)))  # a rectangle
    assert len(share.unique()) > 50


def test_erasing_hits_as_many_images_as_its_chance_says() -> None:
    images = torch.ones((2000, 3, 20, 20))
    assert torch.equal(random_erase(images, 0.0, generator()), images)
    hit = (random_erase(images.clone(), 0.25, generator()) == 0).flatten(1).any(1).sum()
    assert 430 < hit < 570


def test_a_blank_patch_is_that_of_torchvision(extreme: float) -> None:
    images = torch.rand((3, 3, 60, 50), generator=generator())
    area, ratio = (0.2, 3.3) if extreme > 0 else (0.02, 0.3)
    tall, wide = min(60 * math.sqrt(area * ratio), 60), min(50 * math.sqrt(area / ratio), 50)
    top, left = (60 - tall, 50 - wide) if extreme > 0 else (0.0, 0.0)
    corners = [round(side) for side in (top, left, top + tall, left + wide)]
    size = corners[2] - corners[0], corners[3] - corners[1]
    expected = functional.erase(images, corners[0], corners[1], *size, v=torch.zeros(1))
    assert torch.equal(random_erase(images.clone(), 1.0, generator()), expected)


def test_noise_is_distributed_as_that_of_torchvision() -> None:
    images = torch.zeros((20, 3, 40, 30))
    ours = add_noise(images.clone(), 0.3, generator()).flatten().sort().values
    theirs = functional.gaussian_noise(images, 0.0, 0.3, clip=False).flatten().sort().values
    torch.testing.assert_close(ours[700:-700], theirs[700:-700], rtol=0, atol=0.03)
    assert len(add_noise(images.clone(), 0.3, generator()).flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize("cpus", [1, 2, 7])
def test_noise_does_not_depend_on_how_many_threads_draw_it(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = add_noise(torch.zeros((20, 3, 8, 8)), 1.0, generator())
    monkeypatch.setattr(transforms, "cpu_count", lambda: cpus)
    assert torch.equal(add_noise(torch.zeros((20, 3, 8, 8)), 1.0, generator()), expected)


@pytest.mark.parametrize("size", [(32, 24), (15, 13)])
def test_images_in_blocks_are_what_they_are_alone(size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (20, 3, *size), generator=generator(), dtype=torch.uint8)
    matrix, bias = torch.rand((20, 3, 3), generator=generator()), torch.rand((20, 3), generator=generator())
    found = in_blocks(recolor, pixels, matrix, bias)
    expected = torch.einsum("bij,bjhw->bihw", matrix, pixels.float()) + bias[:, :, None, None]
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    motion = affine_matrix(20, size, 0.5, 20.0, 0.2, 0.1, 0.5, generator=generator())
    alone = [warp(pixels[index : index + 1], motion[index : index + 1]) for index in range(20)]
    torch.testing.assert_close(in_blocks(warp, pixels, motion), torch.cat(alone))


def constant(count: int = 16, height: int = 20, width: int = 15) -> Tensor:
    """Image number n is filled with n."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, height, width)


@pytest.mark.parametrize("shape", ["box", "strip"])
def test_the_share_of_cutmix_is_the_area_that_is_really_left(shape: str) -> None:
    images = constant()
    for seed in range(40):
        mixed, partners, share = Mixer(cutmix=1.0, shape=shape)(images, generator(seed))
        own = mixed == images
        assert torch.equal(partners.sort().values, torch.arange(16))
        assert torch.equal(mixed[~own], images[partners][~own])
        strangers = partners != torch.arange(16)
        assert own[strangers].float().mean().item() == pytest.approx(share, abs=1e-6)
        if shape == "strip":
            assert torch.equal(own, own[:, :, :1].expand_as(own))  # a column is pasted wholly or not at all


def test_mixup_blends_every_image_with_its_partner_by_the_share() -> None:
    images = torch.rand((16, 3, 4, 4), generator=generator())
    mixed, partners, share = Mixer(mixup=0.4)(images, generator())
    assert torch.equal(partners.sort().values, torch.arange(16))
    assert 0 <= share <= 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[partners])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    draw, images = generator(), constant(2, 1, 1)
    shares = torch.tensor([Mixer(mixup=alpha)(images, draw)[2] for _ in range(3000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_mixing_is_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs pairs an image with the one before it, ours with a partner drawn at random."""
    images = torch.rand((16, 3, 20, 15), generator=generator())
    monkeypatch.setattr(transforms, "_patch", lambda *_: (4, 3, 14, 9))
    box = {"box": (3, 4, 9, 14)}  # left, top, right, bottom
    for ours, theirs in ((Mixer(mixup=0.4), v2.MixUp(num_classes=2)), (Mixer(cutmix=1.0), v2.CutMix(num_classes=2))):
        mixed, partners, share = ours(images, generator())
        for index, partner in enumerate(partners.tolist()):
            pair = torch.stack((images[partner], images[index]))
            labels = torch.tensor((0, 1))
            expected = theirs.transform(pair, box | {"labels": labels, "batch_size": 2, "lam": share})[1]
            torch.testing.assert_close(mixed[index], expected)


def test_without_mixing_every_image_is_its_own() -> None:
    images = constant()
    mixed, partners, share = Mixer()(images, generator())
    assert mixed is images
    assert partners.tolist() == list(range(16))
    assert share == 1


def test_with_both_kinds_of_mixing_a_coin_decides() -> None:
    mixer, images = Mixer(mixup=1.0, cutmix=1.0), constant()
    blended = [bool((mixer(images, generator(seed))[0] % 1).any()) for seed in range(100)]
    assert 30 < sum(blended) < 70


@pytest.mark.parametrize("mixer", [Mixer(mixup=1.0), Mixer(cutmix=1.0), Mixer(cutmix=1.0, shape="strip")])
def test_the_same_seed_mixes_the_same_and_another_does_not(mixer: Mixer) -> None:
    images = torch.rand((16, 3, 20, 15), generator=generator())
    state = torch.get_rng_state()
    first, again, other = (mixer(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[2] == again[2]
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)
