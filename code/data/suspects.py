"""Suspected labels: images whose label a model contradicts as confidently as it is usually right. No torch.

A model that is confident and wrong on most images tells nothing. So a contradiction counts only at a confidence from
which on the model agrees with the labels in 90 % of all cases, and which it reaches in 90 % of its predictions of that
class that agree. A model without such a confidence suspects nothing.
Tasks of a class, such as mask and gender, are judged each on its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labels import LabelScheme, Task

AGREEMENT = 0.9
USUAL = 0.9


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong: the image, what the label says, what the model says, and how sure the model is."""

    index: int
    label: str
    predicted: str
    confidence: float


def find_suspects(labels: NDArray[np.int64], probabilities: NDArray[np.float32], scheme: LabelScheme) -> list[Suspect]:
    """Return the suspected labels of images with labels (n,) and probabilities (n, classes), the surest first.

    An image is suspected once, for the task in which the model is the surest.
    """
    tasks = scheme.tasks or (Task("", scheme.classes),)
    shape = [len(task.classes) for task in tasks]
    digits = np.unravel_index(labels, shape)
    joint = probabilities.reshape(len(labels), *shape)
    found: dict[int, Suspect] = {}
    for number, task in enumerate(tasks):
        others = tuple(axis for axis in range(1, len(shape) + 1) if axis != number + 1)
        single = joint.sum(others) if others else joint
        predicted, confidence = single.argmax(1), single.max(1)
        agrees = predicted == digits[number]
        enough = confidence >= np.maximum(
            trusted_confidence(agrees, confidence), usual_confidence(predicted, agrees, confidence)
        )
        for index in np.flatnonzero(enough & (predicted != digits[number])).tolist():
            names = task.classes[int(digits[number][index])], task.classes[int(predicted[index])]
            suspect = Suspect(index, *names, float(confidence[index]))
            if index not in found or found[index].confidence < suspect.confidence:
                found[index] = suspect
    return sorted(found.values(), key=lambda suspect: (-suspect.confidence, suspect.index))


def trusted_confidence(agrees: NDArray[np.bool_], confidence: NDArray[np.float32]) -> float:
    """Return the lowest confidence from which on predictions (n,) agree with the labels in 90 % of all cases.

    Returns infinity if there is none.
    """
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(agrees[order]) / np.arange(1, len(order) + 1)
    is_last = np.append(np.diff(confidence[order]) != 0, True)  # images of one confidence count together
    enough = np.flatnonzero((share >= AGREEMENT) & is_last)
    return float(confidence[order][enough[-1]]) if len(enough) else float("inf")


def usual_confidence(
    predicted: NDArray[np.int64], agrees: NDArray[np.bool_], confidence: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the confidence (n,) that 90 % of the predictions of the same class reach that agree with the labels.

    It is infinite for a class of which no prediction agrees.
    """
    found = np.full(len(predicted), np.inf, np.float32)
    for value in np.unique(predicted[agrees]):
        right = confidence[agrees & (predicted == value)]
        found[predicted == value] = np.quantile(right, 1 - USUAL, method="lower")
    return found
