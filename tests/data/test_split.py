"""A split never puts a person on both sides, is stratified, and depends on the seed and the people alone."""

import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import Samples
from data.split import split_samples
from labels import MASKED_FACES
from runtime.errors import DataError


def people(groups: dict[tuple[int, int], int], images: int = 1) -> Samples:
    """A table of so many people per (gender, age), without files; how the mask is worn differs from one to the next."""
    rows = [
        (f"{gender}-{age}-{number}/{image}.jpg", f"{gender}-{age}-{number}", number % 3, gender, age)
        for (gender, age), count in groups.items()
        for number in range(count)
        for image in range(images)
    ]
    table = pd.DataFrame(rows, columns=["path", "person", "mask", "gender", "age"])
    table["label"] = table["mask"] * 6 + table["gender"] * 3 + table["age"]
    return Samples(Path("root"), table.sort_values("path", ignore_index=True), MASKED_FACES)


GROUPS = st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 2)), st.integers(1, 30), min_size=1)


@settings(max_examples=50)
@given(GROUPS, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_the_split_is_by_person_exact_and_stratified(
    groups: dict[tuple[int, int], int], ratio: float, seed: int
) -> None:
    samples, total = people(groups, images=2), sum(groups.values())
    expected = int(total * ratio + 1e-9)
    if expected in (0, total):
        return
    table = samples.table.assign(split=split_samples(samples, ratio, seed))
    assert (table.groupby("person")["split"].nunique() == 1).all()
    persons = table.drop_duplicates("person")
    assert (persons["split"] == "val").sum() == expected
    for (gender, age), count in groups.items():
        group = persons[(persons["gender"] == gender) & (persons["age"] == age)]
        assert abs((group["split"] == "val").sum() - count * ratio) < 1 + 1e-6


@settings(max_examples=50)
@given(GROUPS, st.integers(2, 5), st.integers(0, 100))
def test_the_folds_part_the_people_without_rest_or_overlap(
    groups: dict[tuple[int, int], int], parts: int, seed: int
) -> None:
    samples, total = people(groups), sum(groups.values())
    if total < parts:
        return
    folds = [split_samples(samples, 0.2, seed, fold=(part, parts)) == "val" for part in range(1, parts + 1)]
    assert (pd.concat(folds, axis=1).sum(axis=1) == 1).all()
    assert {fold.sum() for fold in folds} <= {total // parts, -(-total // parts)}


def test_the_competition_keeps_exactly_a_fifth_of_its_people() -> None:
    groups = {(0, 0): 549, (0, 1): 410, (0, 2): 83, (1, 0): 732, (1, 1): 817, (1, 2): 109}
    split = split_samples(people(groups), 0.2, 42)
    assert (split == "val").sum() == 540


def test_the_same_seed_gives_the_same_split_whatever_else_happens() -> None:
    samples = people({(0, 0): 20, (1, 2): 20})
    expected = split_samples(samples, 0.2, 42)
    random.seed(9)
    np.random.seed(9)
    assert split_samples(samples, 0.2, 42).equals(expected)
    assert not split_samples(samples, 0.2, 43).equals(expected)


def test_neither_columns_nor_order_nor_more_images_move_anyone() -> None:
    samples = people({(0, 0): 20, (1, 2): 20})
    expected = dict(zip(samples.table["person"], split_samples(samples, 0.2, 42), strict=True))
    more = people({(0, 0): 20, (1, 2): 20}, images=3).table.sample(frac=1, random_state=0).assign(note="new")
    found = split_samples(Samples(Path("elsewhere"), more, MASKED_FACES), 0.2, 42)
    assert dict(zip(more["person"], found, strict=True)) == expected


def test_by_path_every_image_goes_its_own_way_stratified_by_class() -> None:
    samples = people({(0, 0): 30, (1, 2): 30}, images=5)
    table = samples.table.assign(split=split_samples(samples, 0.2, 42, by="path"))
    assert (table.groupby("person")["split"].nunique() == 2).any()
    assert (table[table["split"] == "val"]["label"].value_counts() == 10).all()


@pytest.mark.parametrize(
    ("count", "ratio", "fold", "sentence"),
    [
        (
            3,
            0.2,
            None,
            "--val-ratio 0.2 leaves no one to validate on out of 3; give more people or another split: root",
        ),
        (1, 0.999999999999, None, "--val-ratio 1 leaves no one to train on out of 1"),
        (1, 0.2, (1, 2), "--fold 1/2 leaves no one to train on out of 1"),
        (1, 0.2, (2, 2), "--fold 2/2 leaves no one to validate on out of 1"),
    ],
)
def test_too_few_people_for_the_split_is_one_sentence(
    count: int, ratio: float, fold: tuple[int, int] | None, sentence: str
) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(sentence)}"):
        split_samples(people({(0, 0): count}), ratio, 42, fold=fold)
