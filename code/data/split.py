"""The split of a data set into training and validation: by person or by image, stratified and seeded. No torch.

Folds have as many people of each group as those of scikit-learn's StratifiedKFold. Its StratifiedGroupKFold balances
images instead of people, and moves people when an image is added. The tests compare with both.
"""

import hashlib
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.samples import Samples
from runtime.errors import DataError


def split_samples(
    samples: Samples, ratio: float, seed: int, *, fold: tuple[int, int] | None = None, by: str = "person"
) -> pd.Series:
    """Return "train" or "val" for every row: validation gets `ratio` of the people, or part k of n if fold=(k, n).

    Rows with the same value in column `by` stay together. The split is stratified by gender x age, or by label in a
    data set without these: the number of people from each group is right to within one. It depends on the seed, the
    ids and the groups only, not on the order of the rows or on a global random state. Raises DataError if one of the
    parts is empty.
    """
    groups = [task.name for task in samples.scheme.tasks if task.name != "mask"] if by == "person" else []
    firsts = samples.table.drop_duplicates(by)
    strata = dict(zip(firsts[by], firsts[groups or ["label"]].itertuples(index=False, name=None), strict=True))
    people = sorted(strata, key=lambda person: (strata[person], _shuffle_key(seed, person)))
    held_out = {person for index, person in enumerate(people) if _is_held_out(index, ratio, fold)}
    if not held_out or len(held_out) == len(people):
        how = f"--fold {fold[0]}/{fold[1]}" if fold else f"--val-ratio {ratio:g}"
        part = "training" if held_out else "validation"
        what = "people" if by == "person" else "images"
        raise DataError(
            f"{how} leaves no {what} for {part} out of {len(people)}; add {what} or change the split: {samples.root}"
        )
    return samples.table[by].isin(held_out).map(lambda held: "val" if held else "train")


def untrained_classes(samples: Samples, train: NDArray[np.int64]) -> list[str]:
    """Return the names of the classes without an image among the indices `train`."""
    counts = np.bincount(samples.labels[train], minlength=samples.scheme.num_classes)
    return [name for name, count in zip(samples.scheme.classes, counts, strict=True) if not count]


def _is_held_out(index: int, ratio: float, fold: tuple[int, int] | None) -> bool:
    """Sample systematically: all people are in one line, group after group, and every 1/ratio-th one is held out."""
    if fold:
        part, parts = fold
        return index % parts == part - 1
    return math.floor(round((index + 1) * ratio, 9)) > math.floor(round(index * ratio, 9))


def _shuffle_key(seed: int, person: str) -> str:
    """Return a sort key that is random but depends on the seed and the person only."""
    return hashlib.sha256(f"{seed}:{person}".encode()).hexdigest()
