"""Every operation equals that of torchvision, is drawn as often, and is of what is shown where there is padding."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from augmentation import create_augmentation
from data import random_operations
from data.images import IMAGENET_MEAN, IMAGENET_STD, Preparation
from data.operation_draws import MOTIONS, OPERATIONS, RAND, TRIVIAL, Space, draw_operations, motions
from data.padding import find_shown
from data.random_operations import CHANGES, apply_operations
from runtime.errors import ConfigError

BINS = 31
TWINS: dict[str, tuple[Space, type[v2.TrivialAugmentWide] | type[v2.RandAugment]]] = {
    "TrivialAugment": (TRIVIAL, v2.TrivialAugmentWide),
    "RandAugment": (RAND, v2.RandAugment),
}
FILL = Preparation(mean=IMAGENET_MEAN).fill


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int = 3, height: int = 40, width: int = 28) -> Tensor:
    """Return smooth images with some noise, whose levels do not reach 0 or 255, channels last as in a store."""
    coarse = torch.rand(count, 3, 6, 5, generator=generator())
    smooth = functional.interpolate(coarse, (height, width), mode="bicubic") * 255
    noisy = smooth + 8 * torch.randn(smooth.shape, generator=generator(1))
    return noisy.clamp(30, 220).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def operated(pixels: Tensor, name: str, strength: float, shown: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Apply one operation to all images."""
    operation = torch.full((len(pixels),), OPERATIONS.index(name))
    strengths = torch.full((len(pixels),), strength)
    drawn = {
        "operation": operation,
        "strength": strengths,
        "motion": motions(operation, strengths, *pixels.shape[2:]),
    }
    return apply_operations(pixels, drawn, shown, FILL)


def torchvisions(pixels: Tensor, name: str, strength: float) -> Tensor:
    """Apply one operation to each image by torchvision's own transform."""
    twin = v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
    apply = twin._apply_image_or_video_transform
    return torch.stack([torch.as_tensor(apply(image, name, strength, twin.interpolation, {})) for image in pixels])


@pytest.mark.parametrize("twin", TWINS)
def test_the_operations_and_their_magnitudes_are_those_of_torchvision(twin: str) -> None:
    space, theirs = TWINS[twin]
    found = space.magnitudes(BINS, 40, 28)
    assert tuple(theirs._AUGMENTATION_SPACE) == OPERATIONS == tuple(found)
    for name, (magnitudes, _) in theirs._AUGMENTATION_SPACE.items():
        if (expected := magnitudes(BINS, 40, 28)) is not None:
            assert torch.equal(found[name], expected.float()), name


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_that_of_torchvision(twin: str, name: str) -> None:
    """Motions differ by one level where a value lies between two; all other operations are equal."""
    pixels = photographs()
    space, theirs = TWINS[twin]
    signs = (1, -1) if theirs._AUGMENTATION_SPACE[name][1] else (1,)
    for magnitude in space.magnitudes(BINS, *pixels.shape[2:])[name][::6].tolist():
        for sign in signs:
            found, shown = operated(pixels, name, sign * magnitude)
            difference = (found.int() - torchvisions(pixels, name, sign * magnitude).int()).abs()
            assert shown is None
            assert difference.max() <= (1 if name in MOTIONS else 0)
            assert (difference > 0).float().mean() < 0.02


@pytest.mark.parametrize("levels", [(7,), (0, 255), (3, 4), (200, 255)])
@pytest.mark.parametrize("name", CHANGES)
def test_images_of_few_levels_are_changed_as_by_torchvision(levels: tuple[int, ...], name: str) -> None:
    pixels = torch.tensor(levels, dtype=torch.uint8)[
        torch.randint(0, len(levels), (2, 3, 12, 9), generator=generator())
    ]
    for strength in {"Posterize": (2, 8), "Solarize": (0.0, 4 / 255, 1.0)}.get(name, (-0.9, 0.9)):
        assert torch.equal(operated(pixels, name, strength)[0], torchvisions(pixels, name, strength))


def test_each_image_of_a_batch_gets_its_own_operation() -> None:
    pixels = photographs(40)
    drawn = draw_operations(pixels.shape, TRIVIAL, BINS, generator())
    assert len(set(drawn["operation"].tolist())) > 8
    before = pixels.clone()
    found, _ = apply_operations(pixels, drawn)
    assert torch.equal(pixels, before)
    for index in range(40):
        alone = {name: values[index : index + 1] for name, values in drawn.items()}
        assert torch.equal(apply_operations(pixels[index : index + 1], alone)[0][0], found[index])


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_choosing_by_a_mask_as_on_a_gpu_gives_what_choosing_rows_gives(
    is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photographs(60)
    shown = None
    if is_padded:
        pixels[:, :, :6] = torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1)
        shown = find_shown(pixels, FILL)
    drawn = draw_operations(pixels.shape, TRIVIAL, BINS, generator())
    expected, expected_shown = apply_operations(pixels, drawn, shown, FILL)
    monkeypatch.setattr(random_operations, "_rows", lambda chosen: [(None, chosen.view(-1, 1, 1, 1))])
    found, found_shown = apply_operations(pixels, drawn, shown, FILL)
    assert torch.equal(found, expected)
    assert (found_shown is None and expected_shown is None) or torch.equal(found_shown, expected_shown)  # type: ignore[arg-type]


def test_the_histogram_of_a_gpu_is_that_of_a_cpu() -> None:
    index = torch.randint(0, 512, (5000,), generator=generator())
    expected = random_operations._histogram(index, 2)
    assert torch.equal(torch.histc(index.float(), 512, 0, 512).long().view(2, 256), expected)


@pytest.mark.parametrize("twin", TWINS)
def test_operations_are_drawn_with_the_distribution_of_torchvision(twin: str) -> None:
    """14 operations alike; where there are two signs, both alike; TrivialAugment: 31 magnitudes alike."""
    count, (space, theirs) = 60_000, TWINS[twin]
    bin_number = None if twin == "TrivialAugment" else 9
    drawn = draw_operations((count, 3, 40, 28), space, BINS, generator(), bin_number)
    seen = Counter(zip(drawn["operation"].tolist(), drawn["strength"].tolist(), strict=True))
    expected: Counter[tuple[int, float]] = Counter()
    for number, (magnitudes_of, signed) in enumerate(theirs._AUGMENTATION_SPACE.values()):
        magnitudes = magnitudes_of(BINS, 40, 28)
        values = [0.0] if magnitudes is None else magnitudes.float().tolist()
        values = values if bin_number is None or magnitudes is None else [values[bin_number]]
        for value in values:
            for sign in (1, -1) if signed else (1,):
                expected[number, value * sign] += count / len(OPERATIONS) / len(values) / (2 if signed else 1)  # type: ignore[assignment]
    assert seen.keys() == expected.keys()
    deviation = sum((seen[key] - expected[key]) ** 2 / expected[key] for key in expected)  # chi-square
    freedom = len(expected) - 1
    assert abs(deviation - freedom) < 5 * math.sqrt(2 * freedom)


# ---- padding ----


def with_bars(pixels: Tensor, rows: int = 8, columns: int = 5) -> Tensor:
    """Return images with bars of the mean colour around them."""
    count, _, height, width = pixels.shape
    padded = torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).repeat(count, 1, height + rows, width + columns)
    padded[:, :, rows:, :width] = pixels
    return padded


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_shown_is_changed_as_an_image_without_padding(name: str) -> None:
    pixels = photographs()
    padded = with_bars(pixels)
    for strength in {"Posterize": (3,), "Solarize": (0.4,)}.get(name, (-0.7, 0.7)):
        found, shown = operated(padded, name, strength, find_shown(padded, FILL))
        expected = with_bars(operated(pixels, name, strength)[0])
        assert torch.equal(found, expected)
        assert shown is not None
        assert torch.equal(shown, find_shown(padded, FILL))


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_moves_the_padding_along_and_shows_the_mean_colour_beyond(name: str) -> None:
    padded = with_bars(photographs())
    found, shown = operated(
        padded, name, 20.0 if name in ("TranslateX", "TranslateY", "Rotate") else 0.5, find_shown(padded, FILL)
    )
    assert shown is not None
    beyond = (shown == 0).expand_as(found)
    assert torch.equal(found[beyond], torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).expand_as(found)[beyond])
    assert 0.05 < shown.float().mean() < find_shown(padded, FILL).float().mean() + 0.05


@pytest.mark.parametrize("name", TWINS)
def test_padding_is_0_in_an_augmented_image(name: str) -> None:
    padded = with_bars(photographs(40))
    augmentation = create_augmentation(name, (48, 33), IMAGENET_MEAN, IMAGENET_STD, None, "pad")
    found = augmentation.augment(padded, augmentation.draw(padded.shape, generator()))
    zeros = (found == 0).all(1).float().mean((1, 2))
    assert zeros.min() > 0.1, "no operation fills the padding"
    assert zeros.mean() < 0.6
    blank = torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).repeat(40, 1, 9, 12)
    assert augmentation.augment(blank, augmentation.draw(blank.shape, generator())).abs().max() == 0


# ---- arguments ----


def test_a_magnitude_and_a_number_of_operations_are_passed() -> None:
    pixels = photographs(30)
    none = create_augmentation("RandAugment", (40, 28), IMAGENET_MEAN, IMAGENET_STD, num_ops=0)
    assert torch.equal(none.augment(pixels, none.draw(pixels.shape, generator())), none.normalize(pixels))
    changes = [
        (augmentation.augment(pixels, augmentation.draw(pixels.shape, generator())) - none.normalize(pixels)).abs()
        for arguments in ({"num_ops": 1, "magnitude": 3}, {"num_ops": 1, "magnitude": 30}, {"num_ops": 4})
        if (augmentation := create_augmentation("RandAugment", (40, 28), IMAGENET_MEAN, IMAGENET_STD, **arguments))
    ]
    assert changes[1].mean() > changes[0].mean()
    changed = [(change.amax((1, 2, 3)) > 0).sum() for change in changes]
    assert changed[2] >= changed[0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("RandAugment", {"num_ops": -1}, "num_ops=-1 is not a whole number from 0 to 14"),
        ("RandAugment", {"num_ops": 1.5}, "num_ops=1.5 is not a whole number from 0 to 14"),
        ("RandAugment", {"magnitude": 31}, "magnitude=31 is not a whole number from 0 to 30"),
        ("RandAugment", {"magnitude": True}, "magnitude=True is not a whole number from 0 to 30"),
        ("TrivialAugment", {"num_magnitude_bins": 1}, "num_magnitude_bins=1 is not a whole number from 2 to 1000"),
    ],
)
def test_a_wrong_argument_is_one_sentence(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^--augmentation-args: {message}$"):
        create_augmentation(name, (40, 28), IMAGENET_MEAN, IMAGENET_STD, **arguments)
