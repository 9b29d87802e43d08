"""The split of a data set whose images belong to groups, such as patients or cameras. No torch.

Groups are taken from large to small, and each goes to the part that is the furthest behind its share of the group's
classes. On generated data sets (tests/data/test_group_split.py) whose groups differ in size, the classes of validation
deviate from their share a third to a tenth as much as with scikit-learn's StratifiedGroupKFold, and with groups of
equal size three quarters as much. Fewer groups move when an image is added, and any ratio is possible, not only 1/n.

Images with several labels count for each of their classes, also where every image is a group of its own: that is
iterative stratification (Sechidis et al., 2011), taken from large groups to small instead of from rare labels to
frequent ones.
"""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def split_groups(
    groups: pd.Series, labels: NDArray[Any], ratio: float, seed: int, fold: tuple[int, int] | None = None
) -> set[str]:
    """Return the groups of validation: `ratio` of the images of each class as nearly as whole groups allow.

    `labels` are class numbers (images,), or 0 and 1 (images, classes) if images have several. With fold=(k, n), return
    part k of n, each of which gets 1/n. The result depends on the seed, and on the ids, sizes and classes of the
    groups, not on the order of the images.
    """
    part, shares = (fold[0] - 1, [1 / fold[1]] * fold[1]) if fold else (1, [1 - ratio, ratio])
    members = _count_several(groups, labels) if labels.ndim > 1 else _count_classes(groups, labels)
    totals = labels.sum(0, np.int64) if labels.ndim > 1 else np.bincount(labels)
    weights = {label: 1 / count**2 for label, count in enumerate(totals.tolist()) if count}
    weights[-1] = 1 / len(labels) ** 2  # -1 stands for images of any class
    lacking = [dict.fromkeys(weights, 0.0) for _ in shares]  # images of each class that a part is behind its share
    chosen = set()
    for group in sorted(members, key=lambda group: (-members[group][-1], shuffle_key(seed, group))):
        counts = members[group].items()
        for share, lacks in zip(shares, lacking, strict=True):
            for label, count in counts:
                lacks[label] += share * count
        needs = [sum(weights[label] * count * lacks[label] for label, count in counts) for lacks in lacking]
        best = needs.index(max(needs))
        for label, count in counts:
            lacking[best][label] -= count
        if best == part:
            chosen.add(group)
    return chosen


def _count_classes(groups: pd.Series, labels: NDArray[np.int64]) -> dict[str, dict[int, int]]:
    """Return the number of images by class for each group, -1 for all of them first, then by label in order."""
    codes, names = pd.factorize(groups.to_numpy(object))
    num_classes = int(labels.max()) + 1
    pairs, numbers = np.unique(codes * num_classes + labels, return_counts=True)
    members: list[dict[int, int]] = [{-1: size} for size in np.bincount(codes).tolist()]
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        code, label = divmod(pair, num_classes)
        members[code][label] = number
    return dict(zip(names, members, strict=True))


def _count_several(groups: pd.Series, labels: NDArray[Any]) -> dict[str, dict[int, int]]:
    """Return the same for images with several labels, (images, classes)."""
    codes, names = pd.factorize(groups.to_numpy(object))
    members: list[dict[int, int]] = [{-1: size} for size in np.bincount(codes).tolist()]
    for code, label in zip(*(found.tolist() for found in np.nonzero(labels)), strict=True):
        counts = members[codes[code]]
        counts[label] = counts.get(label, 0) + 1
    return dict(zip(names, members, strict=True))


def shuffle_key(seed: int, group: str) -> str:
    """Return a sort key that is random but depends on the seed and the group only."""
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()
