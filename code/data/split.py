"""The split of a data set into training and validation: by person or by image, stratified and seeded. No torch."""

import hashlib
import math

import pandas as pd

from data.samples import Samples
from runtime.errors import DataError


def split_samples(
    samples: Samples, ratio: float, seed: int, *, fold: tuple[int, int] | None = None, by: str = "person"
) -> pd.Series:
    """Say "train" or "val" for every row: validation gets `ratio` of the people, or part k of n for fold=(k, n).

    All rows with the same `by` go to the same side. Stratified by gender x age (without these, by label): each group's
    share is right to within one person. A function of seed, ids and groups only: sorted, no global random state.
    """
    groups = [task.name for task in samples.scheme.tasks if task.name != "mask"] if by == "person" else []
    firsts = samples.table.drop_duplicates(by)
    strata = dict(zip(firsts[by], firsts[groups or ["label"]].itertuples(index=False, name=None), strict=True))
    people = sorted(strata, key=lambda person: (strata[person], _shuffle_key(seed, person)))
    held_out = {person for index, person in enumerate(people) if _is_held_out(index, ratio, fold)}
    if not held_out or len(held_out) == len(people):
        how = f"--fold {fold[0]}/{fold[1]}" if fold else f"--val-ratio {ratio:g}"
        side = "train on" if held_out else "validate on"
        raise DataError(
            f"{how} leaves no one to {side} out of {len(people)}; give more people or another split: {samples.root}"
        )
    return samples.table[by].isin(held_out).map(lambda held: "val" if held else "train")


def _is_held_out(index: int, ratio: float, fold: tuple[int, int] | None) -> bool:
    """Systematic sampling: the groups stand in one line, and every 1/ratio-th person is taken."""
    if fold:
        part, parts = fold
        return index % parts == part - 1
    return math.floor(round((index + 1) * ratio, 9)) > math.floor(round(index * ratio, 9))


def _shuffle_key(seed: int, person: str) -> str:
    """A random place in the line that depends on nothing but the seed and the person."""
    return hashlib.sha256(f"{seed}:{person}".encode()).hexdigest()
