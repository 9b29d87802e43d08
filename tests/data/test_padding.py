"""Padding is 0 in every normalised image, augmented or not, and what is shown is augmented as if there were none."""

import numpy as np
import pytest
import torch
from torch import Tensor

from augmentation import create_augmentation
from data.images import IMAGENET_MEAN, IMAGENET_STD, Preparation
from data.padding import find_shown, shown_gray

FILL = Preparation(mean=IMAGENET_MEAN).fill
ALL_OFF = {"flip": 0, "rotate": 0, "scale": 0, "shift": 0, "area": 0, "erase": 0}


def padded(count: int = 12, bar: int = 8) -> Tensor:
    """Return images (count, 3, 40, 24) with bars above and below, of which the last ones are wider."""
    pixels = torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).repeat(count, 1, 40, 24)
    draw = torch.Generator().manual_seed(0)
    for index, image in enumerate(pixels):
        top = bar + index // 6
        image[:, top : 40 - bar] = torch.randint(130, 256, (3, 40 - bar - top, 24), generator=draw)
    return pixels


def augmented(pixels: Tensor, name: str, fit: str = "pad", /, **arguments: float) -> Tensor:
    height, width = pixels.shape[2:]
    augmentation = create_augmentation(name, (height, width), IMAGENET_MEAN, IMAGENET_STD, None, fit, **arguments)
    return augmentation.augment(pixels, augmentation.draw(pixels.shape, torch.Generator().manual_seed(1)))


def test_what_is_shown_is_found_in_the_pixels() -> None:
    pixels = padded()
    shown = find_shown(pixels, FILL)
    assert shown.shape == (12, 1, 40, 24)
    assert shown[0, 0].all(1).tolist() == [8 <= row < 32 for row in range(40)]
    assert shown[11, 0].all(1).tolist() == [9 <= row < 32 for row in range(40)]
    turned = pixels.transpose(2, 3)
    assert torch.equal(find_shown(turned, FILL), shown.transpose(2, 3))
    pixels[0, :, 12:20, 5:10] = torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1)  # within, it is a part of the image
    assert torch.equal(find_shown(pixels, FILL), shown)


def test_an_image_without_padding_is_shown_whole_and_a_blank_one_not_at_all() -> None:
    draw = torch.Generator().manual_seed(0)
    assert find_shown(torch.randint(0, 256, (2, 3, 9, 7), generator=draw, dtype=torch.uint8), FILL).all()
    blank = torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).repeat(2, 1, 9, 7)
    assert not find_shown(blank, FILL).any()
    assert augmented(blank, "StrongAugmentation", noise=0.5).abs().max() == 0


def test_validation_sees_padding_as_0_to_half_a_level() -> None:
    bars = augmented(padded(), "BaseAugmentation")[:, :, :8]
    assert (bars.abs().amax((0, 2, 3)) <= 0.5 / 255 / torch.tensor(IMAGENET_STD) + 1e-6).all()


@pytest.mark.parametrize("name", ["CustomAugmentation", "StrongAugmentation"])
def test_colour_and_noise_leave_padding_0(name: str) -> None:
    strong = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.4, "noise": 1.0}
    still = ALL_OFF if name == "StrongAugmentation" else {}
    found, pixels = augmented(padded(), name, **strong, **still), padded()
    shown = find_shown(pixels, FILL).bool().expand_as(found)
    assert found[~shown].abs().max() == 0
    assert (found[shown] != 0).float().mean() > 0.99


def test_a_motion_moves_in_the_mean_colour_instead_of_a_mirror_image() -> None:
    motion = {**ALL_OFF, "shift": 1.0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    shares = [
        (augmented(padded(), "StrongAugmentation", fit, **motion).abs() < 0.01).float().mean().item()
        for fit in ("pad", "stretch")
    ]
    assert shares[0] > shares[1] + 0.2


def test_what_is_shown_is_augmented_as_an_image_without_padding() -> None:
    colors = {**ALL_OFF, "brightness": 0.3, "saturation": 0.3, "hue": 0.1, "contrast": 0, "noise": 0}
    inner = slice(10, 30)
    found, expected = (augmented(padded(), "StrongAugmentation", fit, **colors) for fit in ("pad", "stretch"))
    torch.testing.assert_close(found[:, :, inner], expected[:, :, inner], rtol=0, atol=2e-3)


def test_contrast_is_that_of_what_is_shown() -> None:
    pixels = padded()
    shown = find_shown(pixels, FILL)
    expected = [
        (image[:, ::4, ::4].float().permute(1, 2, 0) @ torch.tensor((0.299, 0.587, 0.114)))[part[0, ::4, ::4] == 1]
        for image, part in zip(pixels, shown, strict=True)
    ]
    grays = np.array([values.mean().item() / 255 for values in expected])
    np.testing.assert_allclose(shown_gray(pixels, shown).numpy(), grays, rtol=1e-5)
