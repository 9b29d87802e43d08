"""Who is in the demo data set: exact counts, ages, and ids."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import DemoConfig
from demo_people import EVAL, STEMS, TRAIN, apportion, plan
from labels import AgeLabels

COMPETITION = DemoConfig(people=2700, proportions="competition")


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
