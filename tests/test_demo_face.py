"""The faces of the demo: many traits say something about gender and age, none decides, and some say nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from demo_face import Face, draw_face
from demo_mask import put_on_mask
from labels import GenderLabels, MaskLabels


@pytest.fixture(scope="module")
def faces() -> list[tuple[GenderLabels, int, Face]]:
    lots = [(GenderLabels(number % 2), 18 + number // 2 % 60) for number in range(720)]
    return [(*lot, draw_face(*lot, np.random.default_rng([5, number]))) for number, lot in enumerate(lots)]


GENDER_TRAITS: dict[str, Callable[[Face], float]] = {
    "jaw": lambda face: -face.build.jaw,
    "chin": lambda face: -face.build.chin,
    "neck": lambda face: -face.build.neck,
    "lashes": lambda face: face.eyes.lashes,
    "brows": lambda face: -face.eyes.brow_width,
    "hair": lambda face: face.hair.length,
    "earrings": lambda face: face.outfit.earrings != "none",
}
AGE_TRAITS: dict[str, Callable[[Face], float]] = {
    "grey": lambda face: face.hair.grey,
    "forehead": lambda face: face.age.forehead,
    "bags": lambda face: face.age.bags,
    "folds": lambda face: face.age.folds,
    "eyes": lambda face: -face.eyes.size,
    "lips": lambda face: -face.lips.fullness,
}
IRRELEVANT: dict[str, Callable[[Face], float]] = {
    "skin": lambda face: sum(face.skin),
    "iris": lambda face: sum(face.eyes.iris),
    "glasses": lambda face: face.outfit.glasses != "none",
    "hat": lambda face: face.outfit.hat != "none",
    "clothes": lambda face: sum(face.outfit.color),
}


@pytest.mark.parametrize("trait", GENDER_TRAITS)
def test_a_trait_says_something_about_gender_and_none_decides(trait: str, faces: list) -> None:
    scores = [GENDER_TRAITS[trait](face) for _, _, face in faces]
    assert 0.6 < roc_auc_score([gender for gender, _, _ in faces], scores) < 0.96


@pytest.mark.parametrize("threshold", [30, 60])
@pytest.mark.parametrize("trait", AGE_TRAITS)
def test_a_trait_says_something_about_age_and_none_decides(trait: str, threshold: int, faces: list) -> None:
    near = [(years >= threshold, face) for _, years, face in faces if abs(years - threshold) < 20]
    scores = [AGE_TRAITS[trait](face) for _, face in near]
    assert 0.55 < roc_auc_score([older for older, _ in near], scores) < 0.97


@pytest.mark.parametrize("trait", IRRELEVANT)
def test_skin_eye_colour_and_clothes_say_nothing(trait: str, faces: list) -> None:
    scores = [IRRELEVANT[trait](face) for _, _, face in faces]
    assert abs(roc_auc_score([gender for gender, _, _ in faces], scores) - 0.5) < 0.06
    assert abs(roc_auc_score([years >= 48 for _, years, _ in faces], scores) - 0.5) < 0.06


def test_a_mask_covers_the_nose_only_where_it_is_worn_well(faces: list) -> None:
    rng = np.random.default_rng(1)
    for _, _, face in faces:
        assert put_on_mask(MaskLabels.MASK, face, rng).top < face.nose.tip - 0.1
        assert put_on_mask(MaskLabels.INCORRECT, face, rng).top > face.nose.tip + 0.05
