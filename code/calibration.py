"""Answers that can be taken at their word: a temperature for the logits, and thresholds for unsure answers. No torch.

Both are fitted after training, on the validation images. They are for one label per image.

    fitted = calibrate(logits, labels, groups)            # softmax(logits / fitted.scaling.temperature)
    thresholds = fit_thresholds(labels, probabilities, min_precision=0.95)
    thresholds.is_unsure(probabilities)                   # (images,) bool
"""

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from data.names import first_names
from metrics import Calibration, Floats, calibration_of

COLDEST, HOTTEST = 0.05, 20.0  # temperatures
NEVER = 1.01  # a threshold that no probability reaches
_STEPS, _TOLERANCE = 100, 1e-10
_CHUNK_NUMBERS = 1 << 22  # logits that are turned into float64 at once: 32 MB

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class TemperatureScaling:
    """The temperature of a published model, and how well its confidence fits its accuracy.

    `error_before` and `error_after` are expected calibration errors of the validation `images`. The one after is
    measured on each half of the groups with the temperature of the other half.
    """

    temperature: float
    error_before: float
    error_after: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; the inverse of `from_dict`."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Read the fields; raises KeyError or ValueError for what `calibrate` never returns."""
        temperature = float(record["temperature"])
        if not COLDEST <= temperature <= HOTTEST:
            raise ValueError(f"the temperature {temperature} is not between {COLDEST} and {HOTTEST}")
        return cls(temperature, float(record["error_before"]), float(record["error_after"]), int(record["images"]))


@dataclass(frozen=True)
class UnsureThresholds:
    """The probability of each class below which a prediction of it is unsure, and what it was chosen by.

    On the validation images, predictions of a class at or above its threshold have at least `min_precision`; `images`
    is their number by class. A class without such predictions has the threshold 1.01, so it is always unsure.
    """

    min_precision: float
    thresholds: tuple[float, ...]  # (classes,)
    images: tuple[int, ...]  # (classes,)

    def is_unsure(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return True for each prediction below the threshold of its class: probabilities (n, classes) -> (n,)."""
        limits = np.array(self.thresholds)[probabilities.argmax(1)]
        is_sure: NDArray[np.bool_] = probabilities.max(1).astype(np.float64) >= limits  # nan is unsure, too
        return ~is_sure

    @property
    def never_sure(self) -> list[int]:
        """Return the classes whose predictions are always unsure."""
        return [label for label, threshold in enumerate(self.thresholds) if threshold > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; the inverse of `from_dict`."""
        return {
            "min_precision": self.min_precision,
            "thresholds": list(self.thresholds),
            "images": list(self.images),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], num_classes: int) -> Self:
        """Read the fields; raises KeyError, TypeError or ValueError unless each class has a finite threshold."""
        thresholds = tuple(float(value) for value in record["thresholds"])
        images = tuple(int(value) for value in record["images"])
        if not len(thresholds) == len(images) == num_classes or not all(map(math.isfinite, thresholds)):
            raise ValueError(f"{len(thresholds)} thresholds, expected a number for each of {num_classes} classes")
        return cls(float(record["min_precision"]), thresholds, images)


class Fitted(NamedTuple):
    """A temperature, accuracy by confidence before and after it, and why it is 1 if it was not fitted."""

    scaling: TemperatureScaling
    before: Calibration
    after: Calibration
    reason: str


def calibrate(logits: Logits, labels: Labels, groups: Sequence[str]) -> Fitted:
    """Fit a temperature on logits (images, classes), labels (images,), and the group, or person, of each image.

    The calibration after it is cross-fitted: of each half of the groups, with the temperature that fits the other half.
    The temperature stays 1 where it would not lower the loss of images that it was not fitted on.
    """
    if labels.ndim != 1:
        raise ValueError("a temperature is for one label per image")
    hits, one = logits.argmax(1) == labels, np.ones(len(labels))
    before = calibration_of(_confidence(logits, one), hits)
    temperature, crossed, reason = _choose(logits, labels, groups)
    after = calibration_of(_confidence(logits, crossed), hits)
    scaling = TemperatureScaling(temperature, before.expected_error, after.expected_error, len(labels))
    return Fitted(scaling, before, after, reason)


def _choose(logits: Logits, labels: Labels, groups: Sequence[str]) -> tuple[float, Floats, str]:
    """Return the temperature, that of the other half for each image (images,), and why it is 1 if it is."""
    one, second = np.ones(len(labels)), in_second_half(groups)
    if not second.any():
        return 1.0, one, "the validation images are of one group, so nothing is left to measure the calibration on"
    temperature = fit_temperature(logits, labels)
    if temperature is None:
        if (logits.argmax(1) == labels).all():
            return 1.0, one, "all validation images are predicted right, so they do not show how often the model errs"
        return 1.0, one, f"the temperature with the lowest loss is below {COLDEST}, the smallest that is used"
    crossed = np.ones(len(labels))
    for half in (second, ~second):
        crossed[half] = fit_temperature(logits[~half], labels[~half]) or 1.0
    if not _loss(logits, labels, crossed) < _loss(logits, labels, one):
        return 1.0, one, "no other temperature lowers the loss of validation images that it was not fitted on"
    return temperature, crossed, ""


def in_second_half(groups: Sequence[str]) -> NDArray[np.bool_]:
    """Return True for each image whose group is in the second half; (images,). It depends on the names only."""
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    return np.isin(np.array(groups), names[1::2])


def fit_temperature(logits: Logits, labels: Labels) -> float | None:
    """Return the temperature with the smallest mean cross entropy (Guo et al., 2017, section 4.2), within 0.05 and 20.

    Returns None if the loss falls down to the lower bound, as it does if all predictions are right, since the labels do
    not show how often the network errs then, or if the logits of a network that has learned little hardly differ. The
    loss is convex in 1 / temperature, so Newton's method in a bracket finds its minimum; sums are in float64 and in the
    order of the images, so the same logits give the same bits.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    if _slope(logits, labels, high)[0] <= 0:
        return None
    if _slope(logits, labels, low)[0] >= 0:
        return HOTTEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curvature = _slope(logits, labels, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        wanted = inverse - slope / curvature if curvature > 0 else 0.0
        previous, inverse = inverse, wanted if low < wanted < high else math.sqrt(low * high)
        if abs(inverse - previous) <= _TOLERANCE * previous:
            break
    return 1 / inverse


def fit_thresholds(labels: Labels, probabilities: NDArray[np.float32], min_precision: float) -> UnsureThresholds:
    """Return the smallest thresholds from which on predictions of a class are right as often as `min_precision`.

    `labels` (images,) and calibrated `probabilities` (images, classes) are those of the validation images. A threshold
    is half-way between the last probability that is sure and the next one, 0 if all are sure, 1.01 if none are. Few
    images suffice for it, even one: no confidence bound is used, but the number of images is kept.
    """
    if labels.ndim != 1:
        raise ValueError("thresholds are for one label per image")
    predictions, confidence = probabilities.argmax(1), probabilities.max(1).astype(np.float64)
    found = [
        _threshold(confidence[chosen], labels[chosen] == label, min_precision)
        for label in range(probabilities.shape[1])
        for chosen in [predictions == label]
    ]
    return UnsureThresholds(min_precision, tuple(limit for limit, _ in found), tuple(count for _, count in found))


def announce_thresholds(thresholds: UnsureThresholds, images: int, classes: Sequence[str]) -> None:
    """Print how many of the validation images are sure; warn of classes whose predictions are always unsure."""
    precision = f"a precision of {thresholds.min_precision:g}"
    print(f"{sum(thresholds.images)} of {images} validation images are sure, with {precision}", flush=True)
    if never := [repr(classes[label]) for label in thresholds.never_sure]:
        print(
            f"warning: predictions of {len(never)} of {len(classes)} classes are always unsure, because no threshold "
            f"has {precision} on the validation images: {first_names(never, 8)}",
            file=sys.stderr,
        )


def _threshold(confidence: Floats, hits: NDArray[np.bool_], min_precision: float) -> tuple[float, int]:
    """Return the threshold of one class, and how many of its predictions (n,), right or not, reach it."""
    order = np.argsort(-confidence, kind="stable")
    falling = np.append(confidence[order], -1.0)
    precision = np.cumsum(hits[order]) / np.arange(1, len(order) + 1)
    ends = (precision >= min_precision) & (falling[:-1] > falling[1:])  # equal ones are sure together or not at all
    if not ends.any():
        return NEVER, 0
    count = int(np.flatnonzero(ends)[-1]) + 1
    return (0.0 if count == len(order) else float((falling[count - 1] + falling[count]) / 2)), count


def _slope(logits: Logits, labels: Labels, inverse: float) -> tuple[float, float]:
    """Return the first and the second derivative of the loss, summed over the images, by 1 / temperature."""
    slope = curvature = 0.0
    for rows in _chunks(logits):
        shifted = _shifted(logits[rows])
        weights = np.exp(inverse * shifted)
        shares = weights / weights.sum(1, keepdims=True)
        mean = (shares * shifted).sum(1)
        slope += float((mean - shifted[np.arange(len(shifted)), labels[rows]]).sum())
        curvature += float(((shares * shifted**2).sum(1) - mean**2).sum())
    return slope, curvature


def _loss(logits: Logits, labels: Labels, temperatures: Floats) -> float:
    """Return the cross entropy, summed over the images, each with its temperature (images,)."""
    total = 0.0
    for rows in _chunks(logits):
        scaled = _shifted(logits[rows]) / temperatures[rows, None]
        right = scaled[np.arange(len(scaled)), labels[rows]]
        total += float((np.log(np.exp(scaled).sum(1)) - right).sum())
    return total


def _confidence(logits: Logits, temperatures: Floats) -> Floats:
    """Return the probability of the predicted class of each image with its temperature, (images,)."""
    parts = [1 / np.exp(_shifted(logits[rows]) / temperatures[rows, None]).sum(1) for rows in _chunks(logits)]
    return np.concatenate(parts)


def _shifted(logits: Logits) -> Floats:
    """Return logits (n, classes) in float64, each row minus its maximum."""
    exact = logits.astype(np.float64)
    shifted: Floats = exact - exact.max(1, keepdims=True)
    return shifted


def _chunks(logits: Logits) -> list[slice]:
    """Return slices of the images that keep float64 copies of their logits small."""
    step = max(1, _CHUNK_NUMBERS // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]
