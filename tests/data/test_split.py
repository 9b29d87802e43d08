"""A split never puts a person in both parts, is stratified, and depends on the seed and the people only."""

import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from data.samples import Samples
from data.split import split_samples, untrained_classes
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError


def people(groups: dict[tuple[int, int], int], images: int = 1) -> Samples:
    """Return a data set without files, with so many people per (gender, age); the mask differs between people."""
    rows = [
        (f"{gender}-{age}-{number}/{image}.jpg", f"{gender}-{age}-{number}", number % 3, gender, age)
        for (gender, age), count in groups.items()
        for number in range(count)
        for image in range(images)
    ]
    table = pd.DataFrame(rows, columns=["path", "person", "mask", "gender", "age"])
    table["label"] = table["mask"] * 6 + table["gender"] * 3 + table["age"]
    return Samples(Path("root"), table.sort_values("path", ignore_index=True), MASKED_FACES)


COMPETITION = {(0, 0): 549, (0, 1): 410, (0, 2): 83, (1, 0): 732, (1, 1): 817, (1, 2): 109}  # of the original's data
GROUPS = st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 2)), st.integers(1, 30), min_size=1)


@settings(max_examples=50)
@given(GROUPS, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_a_person_is_never_in_both_parts_and_the_split_is_exact_and_stratified(
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
def test_every_person_is_in_exactly_one_fold(groups: dict[tuple[int, int], int], parts: int, seed: int) -> None:
    samples, total = people(groups), sum(groups.values())
    if total < parts:
        return
    folds = [split_samples(samples, 0.2, seed, fold=(part, parts)) == "val" for part in range(1, parts + 1)]
    assert (pd.concat(folds, axis=1).sum(axis=1) == 1).all()
    assert {fold.sum() for fold in folds} <= {total // parts, -(-total // parts)}


def test_validation_gets_exactly_a_fifth_of_the_people_of_the_competition() -> None:
    split = split_samples(people(COMPETITION), 0.2, 42)
    assert (split == "val").sum() == 540


def test_the_split_depends_on_its_seed_and_not_on_the_global_random_state() -> None:
    samples = people({(0, 0): 20, (1, 2): 20})
    expected = split_samples(samples, 0.2, 42)
    random.seed(9)
    np.random.seed(9)
    assert split_samples(samples, 0.2, 42).equals(expected)
    assert not split_samples(samples, 0.2, 43).equals(expected)


def test_more_columns_another_order_or_more_images_move_nobody() -> None:
    samples = people({(0, 0): 20, (1, 2): 20})
    expected = dict(zip(samples.table["person"], split_samples(samples, 0.2, 42), strict=True))
    more = people({(0, 0): 20, (1, 2): 20}, images=3).table.sample(frac=1, random_state=0).assign(note="new")
    found = split_samples(Samples(Path("elsewhere"), more, MASKED_FACES), 0.2, 42)
    assert dict(zip(more["person"], found, strict=True)) == expected


def test_a_split_by_path_is_by_image_and_stratified_by_class() -> None:
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
            "--val-ratio 0.2 leaves no people for validation out of 3; add people or change the split: root",
        ),
        (1, 0.999999999999, None, "--val-ratio 1 leaves no people for training out of 1"),
        (1, 0.2, (1, 2), "--fold 1/2 leaves no people for training out of 1"),
        (1, 0.2, (2, 2), "--fold 2/2 leaves no people for validation out of 1"),
    ],
)
def test_too_few_people_for_the_split_is_an_error_that_says_what_to_do(
    count: int, ratio: float, fold: tuple[int, int] | None, sentence: str
) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(sentence)}"):
        split_samples(people({(0, 0): count}), ratio, 42, fold=fold)


def strata(samples: Samples) -> pd.Series:
    """Return the group of every row, gender x age, as one number."""
    return samples.table["gender"] * 3 + samples.table["age"]


@given(st.dictionaries(st.sampled_from(sorted(COMPETITION)), st.integers(5, 30), min_size=1), st.integers(2, 5))
def test_a_fold_has_the_counts_of_scikit_learns_stratified_k_fold(
    groups: dict[tuple[int, int], int], parts: int
) -> None:
    samples = people(groups)
    stratum = strata(samples)
    ordered = np.sort(stratum.to_numpy())
    for part, (_, theirs) in enumerate(StratifiedKFold(parts).split(ordered, ordered), start=1):
        ours = stratum[split_samples(samples, 0.2, 42, fold=(part, parts)) == "val"]
        assert np.array_equal(np.bincount(ours, minlength=6), np.bincount(ordered[theirs], minlength=6))


@pytest.mark.parametrize("seed", range(3))
def test_the_groups_of_validation_are_those_of_scikit_learns_stratified_shuffle_split(seed: int) -> None:
    samples = people(COMPETITION)
    stratum = strata(samples).to_numpy()
    _, theirs = next(StratifiedShuffleSplit(1, test_size=540, random_state=seed).split(stratum, stratum))
    ours = np.flatnonzero(split_samples(samples, 0.2, seed) == "val")
    assert len(ours) == len(theirs)
    assert abs(np.bincount(stratum[ours]) - np.bincount(stratum[theirs])).max() <= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_fold_has_the_groups_of_stratified_group_k_fold_to_within_one_person(seed: int) -> None:
    samples = people({group: count // 5 for group, count in COMPETITION.items()}, images=3)
    stratum, person = strata(samples).to_numpy(), samples.table["person"].to_numpy()
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(stratum, stratum, person)
    for part, (_, theirs) in enumerate(folds, start=1):
        ours = np.flatnonzero(split_samples(samples, 0.2, seed, fold=(part, 5)) == "val")
        assert abs(np.bincount(stratum[ours]) - np.bincount(stratum[theirs])).max() <= 3  # the images of a person
        assert set(person[ours]).isdisjoint(np.delete(person, ours))


def test_classes_without_a_training_image_are_named_in_order() -> None:
    scheme = LabelScheme("folders", ("ant", "bee", "cat", "dog"))
    table = pd.DataFrame({"path": list("abcde"), "label": [0, 1, 1, 2, 0]})
    samples = Samples(Path("root"), table, scheme)
    assert untrained_classes(samples, np.array([1, 4])) == ["cat", "dog"]
    assert untrained_classes(samples, np.array([], np.int64)) == list(scheme.classes)
