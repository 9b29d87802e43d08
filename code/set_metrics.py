"""Scores of images with several labels, and the thresholds that decide which labels they get. No torch.

Ground truth and decisions are matrices (images, classes) of True and False, probabilities have the same shape. Scores
are those of scikit-learn with zero_division=0, and the tests compare the two. Macro F1 and mean average precision are
means over the classes that an image has or is given, or has, as those of other classes mean nothing.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics import Counts, Floats, Matrix, f_score, macro_f1, per_class

Flags = NDArray[np.bool_]

DEFAULT_THRESHOLD = 0.5


def count_labels(truth: Flags, decided: Flags, sample_weight: NDArray[Any] | None = None) -> Counts:
    """Return how often each class is decided rightly, is in the ground truth, and is decided, (..., classes) each.

    `sample_weight` (..., images) are the times that each image counts.
    """
    columns = (truth & decided, truth, decided)
    if sample_weight is None:
        return Counts(*(column.sum(0) for column in columns))
    return Counts(*(sample_weight @ column for column in columns))


class SetCounts(NamedTuple):
    """What the scores of predicted label sets are computed from.

    How often each class is right, is the ground truth, and is predicted, (..., classes) each; how many images have
    exactly their labels, and how many there are, (..., 1) each.
    """

    hits: Matrix
    support: Matrix
    predicted: Matrix
    right: Matrix
    images: Matrix

    @property
    def classes(self) -> Counts:
        return Counts(self.hits, self.support, self.predicted)


def count_sets(truth: Flags, decided: Flags, answered: Flags, sample_weight: NDArray[Any] | None = None) -> SetCounts:
    """Return the counts of predicted label sets; an image that is not `answered` (images,) is not right."""
    right = (truth == decided).all(1) & answered
    times = np.ones(len(truth), np.int64) if sample_weight is None else sample_weight
    rest = (np.asarray(times @ right)[..., None], np.asarray(times.sum(-1))[..., None])
    return SetCounts(*count_labels(truth, decided, sample_weight), *rest)


def set_statistics(counted: SetCounts) -> dict[str, Floats]:
    """Return every metric of predicted label sets: name -> (...). Hamming loss is the share of wrong decisions."""
    counts, classes = counted.classes, counted.support.shape[-1]
    pooled = per_class(Counts(*(column.sum(-1, keepdims=True) for column in counts)))
    each, is_there = per_class(counts), counted.support + counted.predicted > 0
    wrong = (counted.support + counted.predicted - 2 * counted.hits).sum(-1)
    found = {
        "accuracy": (counted.right / counted.images)[..., 0],
        "hamming_loss": wrong / (counted.images[..., 0] * classes),
    }
    shares = counted.support / np.maximum(counted.support.sum(-1, keepdims=True), 1)
    for name in ("precision", "recall", "f1"):
        column = getattr(each, name)
        found |= {
            f"macro_{name}": column.sum(-1) / np.maximum(is_there.sum(-1), 1),
            f"micro_{name}": getattr(pooled, name)[..., 0],
            f"weighted_{name}": (column * shares).sum(-1),
        }
    return found


def micro_f1(counts: Counts) -> Floats:
    """Return F1 over all pairs of image and class together, (...)."""
    return f_score(Counts(*(column.sum(-1, keepdims=True) for column in counts)))[..., 0]


def exact_match(truth: Flags, decided: Flags, sample_weight: NDArray[Any] | None = None) -> Floats:
    """Return the share of images all of whose labels are right and complete, (...)."""
    right = (truth == decided).all(1)
    if sample_weight is None:
        return np.asarray(right.mean())
    return np.asarray((sample_weight @ right) / sample_weight.sum(-1))


def precision_by_recall(truth: Flags, probabilities: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the recall and the precision of one class, (steps,) each, by falling threshold; an image has to have it.

    Images with equal probabilities are one step, as no threshold tells them apart.
    """
    hits, decided, _ = _ranked(truth, probabilities)
    return hits / hits[-1], hits / decided


def average_precision(truth: Flags, probabilities: NDArray[Any]) -> Floats:
    """Return the average precision of each class, (classes,); NaN for a class that no image has.

    That is the sum over the steps of `precision_by_recall` of the precision times the step in recall.
    """
    found = np.full(truth.shape[1], np.nan)
    for label in np.flatnonzero(truth.any(0)):
        hits, decided, _ = _ranked(truth[:, label], probabilities[:, label])
        found[label] = (np.diff(hits, prepend=0) * hits / decided).sum() / hits[-1]  # exactly 1 if all ranks are right
    return found


def mean_average_precision(truth: Flags, probabilities: NDArray[Any]) -> float:
    """Return the mean of the average precision over the classes that an image has; 0 if there are none."""
    found = average_precision(truth, probabilities)
    return float(np.nanmean(found)) if truth.any() else 0.0


def best_thresholds(truth: Flags, probabilities: NDArray[Any]) -> tuple[float, ...]:
    """Return for each class the threshold with the highest F1: a class is decided from this probability on.

    It is halfway between the least probability that is decided and the next lower one; of several best ones it is the
    highest. A class that no image has gets 0.5.
    """
    thresholds = []
    for label in range(truth.shape[1]):
        if not truth[:, label].any():
            thresholds.append(DEFAULT_THRESHOLD)
            continue
        hits, decided, least = _ranked(truth[:, label], probabilities[:, label])
        best = int(np.argmax(2 * hits / (hits[-1] + decided)))
        below = least[best + 1] if best + 1 < len(least) else 0.0
        thresholds.append(float(least[best] + below) / 2)
    return tuple(thresholds)


def several_scores(truth: Flags, probabilities: NDArray[Any], thresholds: NDArray[np.float64]) -> dict[str, float]:
    """Return accuracy (of whole images), macro and micro F1, and mean average precision, by name."""
    decided = probabilities >= thresholds
    counts = count_labels(truth, decided)
    return {
        "accuracy": float(exact_match(truth, decided)),
        "macro_f1": float(macro_f1(counts)),
        "micro_f1": float(micro_f1(counts)),
        "map": mean_average_precision(truth, probabilities),
    }


def _ranked(truth: Flags, probabilities: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return for each distinct probability of a class, from high to low, what is decided from there on.

    That is how many images are decided rightly, how many are decided, and the probability itself, (distinct,) each.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order].astype(np.float64)
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # of the images with equal probabilities
    hits: Floats = np.cumsum(truth[order])[last].astype(np.float64)
    return hits, (last + 1).astype(np.float64), ranked[last]
