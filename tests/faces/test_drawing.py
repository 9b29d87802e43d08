"""Portraits of the demo: the same pixels every time, one size, and a mask that is where its label says."""

import numpy as np
import pytest
from PIL import ImageChops

from faces.drawing import HEIGHT, NOSE, WIDTH, draw_portrait, mirrored, random_mask, smooth
from faces.people import random_face
from labels import GenderLabels, MaskLabels


@pytest.mark.parametrize("worn", MaskLabels)
def test_the_same_random_numbers_draw_the_same_pixels(worn: MaskLabels) -> None:
    face = random_face(GenderLabels.FEMALE, 40, np.random.default_rng(1))
    first, second, other = (draw_portrait(face, worn, np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert (first.mode, first.size) == ("RGB", (WIDTH, HEIGHT))
    assert first == second
    assert first != other


@pytest.mark.parametrize("gender", GenderLabels)
@pytest.mark.parametrize("years", [18, 45, 80])
def test_every_face_can_be_drawn(gender: GenderLabels, years: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = draw_portrait(random_face(gender, years, rng), MaskLabels.NORMAL, rng)
        assert np.asarray(image).std() > 10


def test_a_mask_covers_the_nose_only_where_it_is_worn_well() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        assert random_mask(MaskLabels.MASK, rng).top < NOSE - 0.1
        assert random_mask(MaskLabels.INCORRECT, rng).top > NOSE + 0.05


def test_a_mask_changes_the_lower_half_of_the_face_and_not_the_forehead() -> None:
    face = random_face(GenderLabels.MALE, 40, np.random.default_rng(1))
    bare, masked = (
        draw_portrait(face, worn, np.random.default_rng(2)) for worn in (MaskLabels.NORMAL, MaskLabels.MASK)
    )
    changed = np.asarray(ImageChops.difference(bare, masked)).max(axis=2) > 60
    assert changed[int(0.5 * HEIGHT) : int(0.7 * HEIGHT), int(0.4 * WIDTH) : int(0.6 * WIDTH)].mean() > 0.5
    assert changed[: int(0.25 * HEIGHT)].mean() < 0.02


@pytest.mark.parametrize("closed", [False, True])
def test_a_smooth_curve_passes_through_its_points(closed: bool) -> None:
    points = mirrored([(0.2, -1), (0.7, 0), (0.3, 0.9)])
    curve = smooth(points, closed=closed)
    distances = np.hypot(*(curve[:, None] - points).transpose(2, 0, 1))
    assert distances.min(axis=0).max() < 1e-12
    assert len(curve) == (36 if closed else 31)
