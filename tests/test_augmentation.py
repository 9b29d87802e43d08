"""Preparation is always the same, augmentation is a function of the generator, and bad arguments are errors."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from augmentation import (
    AddGaussianNoise,
    BaseAugmentation,
    CustomAugmentation,
    StrongAugmentation,
    create_augmentation,
)
from config import AUGMENTATIONS
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Preparation, prepare
from runtime.errors import ConfigError

ALL = list(AUGMENTATIONS)
RANDOM = ALL[1:]
NOISY = ["CustomAugmentation", "StrongAugmentation"]
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 32, width: int = 24) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator(), dtype=torch.uint8)


def create(name: str, crop: tuple[int, int] | None = None, /, **arguments: object) -> BaseAugmentation:
    return create_augmentation(name, (32, 24), ORIGINAL_MEAN, ORIGINAL_STD, crop, **arguments)


def augmented(augmentation: BaseAugmentation, pixels: Tensor, draw: torch.Generator) -> Tensor:
    return augmentation.augment(pixels, augmentation.draw(pixels.shape, draw))


def normalized(pixels: Tensor) -> Tensor:
    """Normalise with torchvision's ToTensor and Normalize."""
    scaled = v2.ToDtype(torch.float32, scale=True)(pixels)
    normalised: Tensor = v2.Normalize(ORIGINAL_MEAN, ORIGINAL_STD)(scaled)
    return normalised


def png(image: Image.Image = IMAGE) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_normalising_equals_that_of_torchvision() -> None:
    torch.testing.assert_close(BaseAugmentation().normalize(batch()), normalized(batch()), rtol=0, atol=1e-5)


def test_the_base_augmentation_only_resizes_and_normalises() -> None:
    resized = torch.from_numpy(np.array(IMAGE.resize((24, 32), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    torch.testing.assert_close(create("BaseAugmentation")(IMAGE), normalized(resized), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_an_augmented_batch_is_normalised_float32_of_the_same_shape(name: str) -> None:
    pixels = batch()
    before = pixels.clone()
    images = augmented(create(name), pixels, generator())
    assert images.shape == pixels.shape
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert torch.equal(pixels, before)


def test_random_augmentations_with_all_arguments_zero_only_normalise() -> None:
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "noise": 0}
    motionless = {"flip": 0, "rotate": 0, "scale": 0, "shift": 0, "area": 0, "erase": 0}
    for augmentation in (create("CustomAugmentation", **still), create("StrongAugmentation", **still, **motionless)):
        found = augmented(augmentation, batch(), generator())
        torch.testing.assert_close(found, normalized(batch()), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", RANDOM)
def test_augmentation_is_a_function_of_the_seed(name: str) -> None:
    augmentation = create(name)
    first, again, other = (augmented(augmentation, batch(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", NOISY)
def test_each_image_of_a_batch_is_augmented_differently(name: str) -> None:
    same = batch(1).expand(8, -1, -1, -1)
    images = augmented(create(name, noise=0), same, generator())
    assert len(np.unique(images.flatten(1).numpy(), axis=0)) == 8


@pytest.mark.parametrize("name", ALL)
def test_augmenting_a_batch_neither_reads_nor_changes_the_global_random_state(name: str) -> None:
    torch.manual_seed(1)
    first = augmented(create(name), batch(), generator())
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(augmented(create(name), batch(), generator()), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
def test_augmenting_one_image_follows_the_global_seed_as_in_the_original(name: str) -> None:
    augmentation = create(name)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augmentation(IMAGE))
    assert found[0].shape == (3, 32, 24)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_an_image_a_file_and_bytes_are_prepared_alike(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png())
    augmentation = create("BaseAugmentation")
    assert torch.equal(augmentation(IMAGE), augmentation(path))
    assert torch.equal(augmentation(IMAGE), augmentation(png()))


@pytest.mark.parametrize(
    ("name", "given", "crop"),
    [
        ("BaseAugmentation", None, None),
        ("CustomAugmentation", None, (320, 256)),
        ("StrongAugmentation", None, None),
        ("CustomAugmentation", (40, 30), (40, 30)),
        ("BaseAugmentation", (40, 30), (40, 30)),
    ],
)
def test_the_crop_is_part_of_the_preparation_that_inference_repeats(
    name: str, given: tuple[int, int] | None, crop: tuple[int, int] | None
) -> None:
    augmentation = create(name, given)
    assert augmentation.preparation == Preparation((32, 24), crop, ORIGINAL_MEAN, ORIGINAL_STD)
    assert np.array_equal(augmentation.prepare(png()), prepare(png(), augmentation.preparation))


@pytest.mark.parametrize("name", ALL)
def test_the_plain_augmentation_of_a_preparation_prepares_the_same_and_only_normalises(name: str) -> None:
    augmentation = create(name, (40, 30))
    plain = BaseAugmentation.of(augmentation.preparation)
    assert plain.preparation == augmentation.preparation
    assert torch.equal(augmented(plain, batch(), generator()), augmentation.normalize(batch()))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.0, 0.5), (0.0, 0.0)])
def test_gaussian_noise_has_the_given_mean_and_standard_deviation(mean: float, std: float) -> None:
    noise = AddGaussianNoise(mean, std)(torch.full((3, 100, 100), 5.0), generator()) - 5
    assert noise.mean().item() == pytest.approx(mean, abs=0.02)
    assert noise.std().item() == pytest.approx(std, abs=0.02)
    assert repr(AddGaussianNoise(mean, std)) == f"AddGaussianNoise(mean={mean}, std={std})"


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_noise_has_the_given_strength_and_is_weak_by_default(noise: float) -> None:
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    arguments = still if noise == 0.1 else still | {"noise": noise}
    change = augmented(create("CustomAugmentation", **arguments), batch(), generator()) - normalized(batch())
    assert change.std().item() == pytest.approx(noise, rel=0.03)
    assert change.mean().abs() < 0.02 * noise


def test_every_argument_of_the_strong_augmentation_has_an_effect() -> None:
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "noise": 0}
    still |= {"flip": 0, "rotate": 0, "scale": 0, "shift": 0, "area": 0, "erase": 0}
    plain = augmented(create("StrongAugmentation", **still), batch(), generator())
    for name in still:
        value = 10 if name == "rotate" else 0.5
        changed = augmented(create("StrongAugmentation", **(still | {name: value})), batch(), generator())
        assert (changed - plain).abs().max() > 0.1, name


def test_arguments_are_passed_to_the_augmentation() -> None:
    custom = create("CustomAugmentation", brightness=0.3, contrast=0.2, saturation=0.15, hue=0.05, noise=0.4)
    assert isinstance(custom, CustomAugmentation)
    assert custom.jitter == (0.3, 0.2, 0.15, 0.05)
    assert custom.noise.std == 0.4
    strong = create("StrongAugmentation", flip=1, rotate=5, scale=0.1, shift=0.2, area=0.3, erase=0.5)
    assert isinstance(strong, StrongAugmentation)
    assert strong.geometry == (1.0, 5.0, 0.1, 0.2, 0.3)
    assert strong.erase == 0.5


def test_an_unknown_augmentation_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^unknown augmentation 'Custom' \(did you mean 'CustomAugmentation'\?\)"):
        create("Custom")


@pytest.mark.parametrize("argument", ["nois", "size", "resize", "mean", "std", "name", ""])
def test_an_unknown_argument_is_an_error_that_lists_the_known_ones(argument: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^--augmentation-args: unknown argument of CustomAugmentation '{argument}'.*noise"
    ):
        create("CustomAugmentation", **{argument: 1})
    with pytest.raises(
        ConfigError, match=rf"^--augmentation-args: BaseAugmentation takes no arguments, got '{argument}'$"
    ):
        create("BaseAugmentation", **{argument: 1})


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *(dict.fromkeys(["brightness", "contrast", "saturation", "flip", "shift", "erase"], 1.0)).items(),
        ("hue", 0.5),
        ("noise", 10.0),
        ("rotate", 180.0),
        ("scale", 0.9),
        ("area", 0.99),
    ],
)
def test_a_value_out_of_range_is_an_error_and_the_limits_are_allowed(name: str, limit: float) -> None:
    for value in (-0.1, limit * 1.01, math.nan, math.inf, 10**400, True, "0.1", "much"):
        with pytest.raises(
            ConfigError, match=rf"^--augmentation-args: {name}=.* is not a number between 0 and {limit:g}$"
        ):
            create("StrongAugmentation", **{name: value})
    for value in (0, limit):
        assert augmented(create("StrongAugmentation", **{name: value}), batch(), generator()).isfinite().all()
