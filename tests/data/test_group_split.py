"""Groups are never in both parts, and their split is better balanced and steadier than scikit-learn's."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from data.group_split import split_groups
from data.samples import Samples
from data.split import split_samples
from labels import LabelScheme
from runtime.errors import DataError

Labels = NDArray[np.int64]
CLASSES = LabelScheme("labels", ("a", "b", "c", "d"))


def draw(kind: str, seed: int, groups: int = 100) -> tuple[pd.Series, Labels]:
    """Return the group and the label of every image of a data set: groups of a few or of many images."""
    random = np.random.default_rng(seed)
    names, labels = [], []
    for number in range(groups):
        size = 6 if kind == "equal" else int(np.clip(random.lognormal(1.5, 1), 1, 300))
        if kind == "mixed":
            found = random.choice(4, size, p=random.dirichlet([0.7, 0.4, 0.2, 0.1]))
        else:
            found = np.full(size, random.choice(4, p=[0.4, 0.3, 0.2, 0.1]))
        labels += found.tolist()
        names += [f"g{number:03}"] * size
    return pd.Series(names), np.array(labels)


def samples_of(groups: pd.Series, labels: Labels) -> Samples:
    table = pd.DataFrame({"path": [f"{number:06}.jpg" for number in range(len(groups))], "label": labels})
    return Samples(Path("root"), table.assign(person=groups.to_numpy()), CLASSES)


GROUPED = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=2, max_size=60)


@settings(max_examples=50)
@given(GROUPED, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_no_group_straddles_a_split_and_the_order_of_rows_moves_none(
    rows: list[tuple[int, int]], ratio: float, seed: int
) -> None:
    groups = pd.Series([f"g{group}" for group, _ in rows])
    samples = samples_of(groups, np.array([label for _, label in rows]))
    try:
        split = split_samples(samples, ratio, seed)
    except DataError:
        assert groups.nunique() < 14
        return
    assert (split.groupby(groups).nunique() == 1).all()
    table = samples.table.assign(split=split)
    mixed = table.sample(frac=1, random_state=seed % 1000)
    again = split_samples(Samples(samples.root, mixed.drop(columns="split"), CLASSES), ratio, seed)
    assert again.tolist() == mixed["split"].tolist()


@settings(max_examples=30)
@given(GROUPED, st.integers(2, 5), st.integers(0, 100))
def test_every_group_is_in_exactly_one_fold(rows: list[tuple[int, int]], parts: int, seed: int) -> None:
    groups, labels = pd.Series([f"g{group}" for group, _ in rows]), np.array([label for _, label in rows])
    folds = [split_groups(groups, labels, 0.2, seed, (part, parts)) for part in range(1, parts + 1)]
    assert sorted(group for fold in folds for group in fold) == sorted(set(groups))


def deviation(is_val: NDArray[np.bool_], labels: Labels, ratio: float) -> float:
    """Return how far the share of validation in each class is from `ratio`, on average."""
    total = np.bincount(labels)
    return float(np.abs(np.bincount(labels[is_val], minlength=len(total)) / total - ratio).mean())


@pytest.mark.parametrize("kind", ["equal", "skewed", "mixed"])
def test_the_split_is_better_balanced_and_steadier_than_stratified_group_k_fold(kind: str) -> None:
    found = []
    for seed in range(6):
        groups, labels = draw(kind, seed)
        more_groups, more_labels = pd.concat([groups, groups[:1]], ignore_index=True), np.append(labels, labels[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            _, theirs = next(folds.split(labels, labels, groups))
            _, after = next(folds.split(more_labels, more_labels, more_groups))
        ours = split_groups(groups, labels, 0.2, seed)
        later = split_groups(more_groups, more_labels, 0.2, seed)
        moved = set(groups[theirs]) ^ set(more_groups[after])
        is_theirs = np.isin(np.arange(len(labels)), theirs)
        found.append(
            (
                *(deviation(is_val, labels, 0.2) for is_val in (groups.isin(list(ours)).to_numpy(), is_theirs)),
                *(len(ours ^ later), len(moved)),
            )
        )
    ours_off, theirs_off, ours_moved, theirs_moved = np.mean(found, axis=0)
    assert ours_off < theirs_off
    assert ours_moved < theirs_moved


def test_class_folders_and_people_keep_the_split_of_the_last_release() -> None:
    paths = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(10)]
    table = pd.DataFrame({"path": paths, "person": paths, "label": [0] * 10 + [1] * 10})
    split = split_samples(Samples(Path("root"), table, LabelScheme("folders", ("cat", "dog"))), 0.2, 42, by="path")
    assert table["path"][split == "val"].tolist() == ["cat/2.jpg", "cat/7.jpg", "dog/4.jpg", "dog/8.jpg"]


def test_a_split_that_leaves_no_group_is_an_error_that_says_what_to_do() -> None:
    samples = samples_of(pd.Series(["one", "one"]), np.array([0, 1]))
    with pytest.raises(DataError, match=r"^--val-ratio 0\.2 leaves no groups for (training|validation) out of 1; add"):
        split_samples(samples, 0.2, 42)
