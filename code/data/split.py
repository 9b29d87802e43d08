"""The split of a data set into training and validation: by person or by image, stratified and seeded. No torch.

Folds have as many people of each gender and age as those of scikit-learn's StratifiedKFold. Its StratifiedGroupKFold
balances images instead of people, and moves people when an image is added. Other data sets with groups are split by
group_split.py. The tests compare with both.
"""

import math
from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.group_split import shuffle_key, split_groups
from data.samples import Samples
from labels import MULTI
from runtime.errors import DataError


def split_samples(
    samples: Samples, ratio: float, seed: int, *, fold: tuple[int, int] | None = None, by: str = "person"
) -> pd.Series:
    """Return "train" or "val" for every row: validation gets `ratio` of the people, or part k of n if fold=(k, n).

    A data set that comes with a split keeps it. Rows with the same value in column `by` stay together. The split is
    stratified by gender x age, or by label in a data set without these: the number of people from each group is right
    to within one; other groups, and images with several labels, are those of group_split.py. It depends on the seed,
    the ids and the groups only, not on the order of the rows or on a global random state. Raises DataError if one of
    the parts is empty, and for a fold of a data set that comes with a split.
    """
    if samples.has_split:
        return _given_split(samples, fold)
    if samples.scheme.kind == MULTI or (by == "person" and samples.has_groups and not samples.scheme.tasks):
        held_out = split_groups(samples.table["person"], samples.labels, ratio, seed, fold)
        what = "groups" if samples.has_groups else "images"
        _check_parts(samples, len(held_out), samples.table["person"].nunique(), ratio, fold, what)
        return _name_parts(samples.table["person"], held_out)
    groups = [task.name for task in samples.scheme.tasks if task.name != "mask"] if by == "person" else []
    firsts = samples.table.drop_duplicates(by)
    strata = dict(zip(firsts[by], firsts[groups or ["label"]].itertuples(index=False, name=None), strict=True))
    people = sorted(strata, key=lambda person: (strata[person], shuffle_key(seed, person)))
    held_out = {person for index, person in enumerate(people) if _is_held_out(index, ratio, fold)}
    what = "people" if groups else "images"
    _check_parts(samples, len(held_out), len(people), ratio, fold, what)
    return _name_parts(samples.table[by], held_out)


def check_folds(samples: Samples, folds: int, dataset: str) -> None:
    """Raise DataError for data that comes with a split, or has fewer people, groups or images than folds."""
    if samples.has_split:
        raise DataError(
            "the data comes with a split, and cross-validation makes its own; use train, or pass the images of both "
            f"parts without a split: {samples.root}"
        )
    by_group = samples.has_groups and dataset != "MaskBaseDataset"
    units = samples.table["person"].nunique() if by_group else len(samples.table)
    if units < folds:
        what = "people or groups" if by_group else "images"
        raise DataError(f"--folds {folds} is more than the {units} {what} there are; lower it: {samples.root}")


def untrained_classes(samples: Samples, train: NDArray[np.int64]) -> list[str]:
    """Return the names of the classes without an image among the indices `train`."""
    counts = samples.class_counts(train)
    return [name for name, count in zip(samples.scheme.classes, counts, strict=True) if not count]


def _given_split(samples: Samples, fold: tuple[int, int] | None) -> pd.Series:
    """Return the split that a data set comes with; raise DataError if a part is empty or a fold is asked for."""
    if fold and samples.val_root:
        raise DataError(
            f"--fold {fold[0]}/{fold[1]}: there is a folder of validation images, too; leave out one of both: "
            f"{samples.val_root}"
        )
    if fold:
        raise DataError(
            f"--fold {fold[0]}/{fold[1]}: the data comes with a split; leave the option out, or pass the training "
            f"images alone: {samples.root}"
        )
    split = samples.table["part"]
    if missing := {"train", "val"} - set(split):
        part = "training" if "train" in missing else "validation"
        raise DataError(f"the split that the data comes with has no images for {part}: {samples.root}")
    return split


def _check_parts(
    samples: Samples, held_out: int, total: int, ratio: float, fold: tuple[int, int] | None, what: str
) -> None:
    """Raise DataError if all or none of `total` people, groups or images (`what`) are held out."""
    if 0 < held_out < total:
        return
    how = f"--fold {fold[0]}/{fold[1]}" if fold else f"--val-ratio {ratio:g}"
    part = "training" if held_out else "validation"
    raise DataError(f"{how} leaves no {what} for {part} out of {total}; add {what} or change the split: {samples.root}")


def _name_parts(ids: pd.Series, held_out: Collection[str]) -> pd.Series:
    return ids.isin(list(held_out)).map({True: "val", False: "train"})


def _is_held_out(index: int, ratio: float, fold: tuple[int, int] | None) -> bool:
    """Sample systematically: all people are in one line, group after group, and every 1/ratio-th one is held out."""
    if fold:
        part, parts = fold
        return index % parts == part - 1
    return math.floor(round((index + 1) * ratio, 9)) > math.floor(round(index * ratio, 9))
