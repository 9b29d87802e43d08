"""People of the demo: exact counts, ages and ids; many traits tell gender or age, none decides, some tell nothing."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from faces.options import DemoConfig
from faces.people import EVAL, STEMS, TRAIN, Face, apportion, plan, random_face, random_stream
from labels import AgeLabels, GenderLabels

COMPETITION = DemoConfig(people=2700, proportions="competition")


# ---- who is in the data set ----


def test_the_competition_has_its_exact_class_counts() -> None:
    people = [person for person in plan(COMPETITION) if person.split == TRAIN]
    counts = Counter(person.label(stem) for person in people for stem in STEMS)
    people_of_groups = [549, 410, 83, 732, 817, 109]
    assert [counts[label] for label in range(18)] == [
        *(5 * count for count in people_of_groups),
        *people_of_groups,
        *people_of_groups,
    ]


def test_the_competition_is_evaluated_on_1800_people() -> None:
    assert Counter(person.split for person in plan(COMPETITION)) == {TRAIN: 2700, EVAL: 1800}


@pytest.mark.parametrize("proportions", ["balanced", "competition"])
def test_a_person_is_never_in_both_splits(proportions: str) -> None:
    people = plan(DemoConfig(people=200, proportions=proportions))
    assert len({person.id for person in people}) == len(people) == 200 + (133 if proportions == "competition" else 100)


def test_balanced_groups_differ_by_at_most_one_person() -> None:
    people = [person for person in plan(DemoConfig(people=100, eval_people=7)) if person.split == TRAIN]
    counts = Counter((person.gender, AgeLabels.from_number(person.age)) for person in people)
    assert sum(counts.values()) == 100
    assert set(counts.values()) == {16, 17}


@given(st.integers(0, 10_000), st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_shares_add_up_and_are_right_to_within_one(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    assert all(abs(share - total * weight / sum(weights)) < 1 for share, weight in zip(shares, weights, strict=True))


@pytest.mark.parametrize(("proportions", "oldest"), [("balanced", 80), ("competition", 60)])
def test_ages_are_those_of_adults_and_the_competition_records_nobody_over_60(proportions: str, oldest: int) -> None:
    ages = {person.age for person in plan(DemoConfig(people=3000, proportions=proportions))}
    assert ages == set(range(18, oldest + 1))


def test_random_streams_differ_by_seed_purpose_and_number() -> None:
    streams = [(1, "train", 2, 3), (2, "train", 2, 3), (1, "eval", 2, 3), (1, "train", 3, 3), (1, "train", 2, 4)]
    assert len({random_stream(*stream).random() for stream in streams}) == len(streams)
    assert random_stream(*streams[0]).random() == random_stream(*streams[0]).random()


# ---- traits ----


Faces = list[tuple[GenderLabels, int, Face]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    people = [(GenderLabels(number % 2), 18 + number // 2 % 60) for number in range(720)]
    return [(*person, random_face(*person, np.random.default_rng([5, number]))) for number, person in enumerate(people)]


GENDER_TRAITS: dict[str, Callable[[Face], float]] = {
    "jaw": lambda face: -face.jaw,
    "chin": lambda face: -face.chin,
    "neck": lambda face: -face.neck,
    "lashes": lambda face: face.lashes,
    "brows": lambda face: -face.brows,
    "hair": lambda face: face.hair_length,
    "makeup": lambda face: face.makeup,
}
AGE_TRAITS: dict[str, Callable[[Face], float]] = {
    "grey": lambda face: face.grey,
    "forehead": lambda face: face.forehead,
    "bags": lambda face: face.bags,
    "folds": lambda face: face.folds,
    "eyes": lambda face: -face.eyes,
    "lips": lambda face: -face.lips,
}
IRRELEVANT: dict[str, Callable[[Face], float]] = {
    "skin": lambda face: sum(face.skin),
    "iris": lambda face: sum(face.iris),
    "glasses": lambda face: face.glasses,
    "clothes": lambda face: sum(face.clothes),
}


@pytest.mark.parametrize("trait", GENDER_TRAITS)
def test_a_trait_tells_something_about_gender_and_none_decides(trait: str, faces: Faces) -> None:
    scores = [GENDER_TRAITS[trait](face) for _, _, face in faces]
    assert 0.6 < roc_auc_score([gender for gender, _, _ in faces], scores) < 0.96


@pytest.mark.parametrize("threshold", [30, 60])
@pytest.mark.parametrize("trait", AGE_TRAITS)
def test_a_trait_tells_something_about_age_and_none_decides(trait: str, threshold: int, faces: Faces) -> None:
    near = [(years >= threshold, face) for _, years, face in faces if abs(years - threshold) < 20]
    scores = [AGE_TRAITS[trait](face) for _, face in near]
    assert 0.55 < roc_auc_score([older for older, _ in near], scores) < 0.97


@pytest.mark.parametrize("trait", IRRELEVANT)
def test_skin_eye_colour_glasses_and_clothes_tell_nothing(trait: str, faces: Faces) -> None:
    scores = [IRRELEVANT[trait](face) for _, _, face in faces]
    assert abs(roc_auc_score([gender for gender, _, _ in faces], scores) - 0.5) < 0.06
    assert abs(roc_auc_score([years >= 48 for _, years, _ in faces], scores) - 0.5) < 0.06
