"""How images are labelled, with one class each or with several: what is decided, how it is told, and how it is scored.

    labelling = labelling_of(scheme, thresholds)
    labelling.decide(probabilities)  # class numbers (images,), or a matrix of True and False (images, classes)
    labelling.cells(probabilities, None)  # 7, or 3|7

Whatever handles predictions asks this object instead of the scheme's kind. Probabilities are (images, classes). No
torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labels import MULTI, LabelScheme, join_labels
from metrics import count, scores
from set_metrics import DEFAULT_THRESHOLD, best_thresholds, several_scores

Probabilities = NDArray[np.float32]
DIGITS = 6  # of a probability in a response


class Labelling(Protocol):
    """What one kind of label scheme does with probabilities."""

    @property
    def scheme(self) -> LabelScheme: ...

    def decide(self, probabilities: Probabilities) -> NDArray[Any]:
        """Return the labels of every image, in the form of its ground truth."""
        ...

    def cells(self, probabilities: Probabilities, names: Sequence[str] | None) -> list[object]:
        """Return what output.csv says about every image: class numbers, or `names` of the classes."""
        ...

    def response(self, probabilities: Probabilities) -> dict[str, Any]:
        """Return what the server says about one image, from its probabilities (classes,)."""
        ...

    def details(self, probabilities: Probabilities) -> dict[str, Any]:
        """Return what the server adds if a client wants all probabilities of one image, (classes,)."""
        ...

    def thresholds_of(self, truth: NDArray[Any], probabilities: Probabilities) -> tuple[float, ...]:
        """Return the best decision thresholds (classes,) for labelled images; none where nothing has a threshold."""
        ...

    def scores(self, truth: NDArray[Any], probabilities: Probabilities) -> dict[str, float]:
        """Return the scores of labelled images by name."""
        ...


@dataclass(frozen=True)
class OneLabel:
    """Every image has one class: the most probable one."""

    scheme: LabelScheme

    @cached_property
    def _described(self) -> list[dict[str, Any]]:
        """Return what a response says about each class, looked up once for all requests."""
        classes = enumerate(self.scheme.classes)
        return [{"prediction": label, "label": name, **self.scheme.describe(label)} for label, name in classes]

    def decide(self, probabilities: Probabilities) -> NDArray[np.int64]:
        decided: NDArray[np.int64] = probabilities.argmax(1)
        return decided

    def cells(self, probabilities: Probabilities, names: Sequence[str] | None) -> list[object]:
        labels = self.decide(probabilities).tolist()
        return labels if names is None else [names[label] for label in labels]

    def response(self, probabilities: Probabilities) -> dict[str, Any]:
        label = int(probabilities.argmax())
        return {**self._described[label], "probability": round(float(probabilities[label]), DIGITS)}

    def details(self, probabilities: Probabilities) -> dict[str, Any]:
        return {"probabilities": _rounded(probabilities), "labels": list(self.scheme.classes)}

    def thresholds_of(self, truth: NDArray[Any], probabilities: Probabilities) -> tuple[float, ...]:
        return ()

    def scores(self, truth: NDArray[Any], probabilities: Probabilities) -> dict[str, float]:
        return scores(count(truth, self.decide(probabilities), self.scheme), self.scheme)


@dataclass(frozen=True)
class SeveralLabels:
    """Every image has the classes whose probability reaches their threshold, (classes,), 0.5 unless it is given."""

    scheme: LabelScheme
    thresholds: tuple[float, ...] = ()

    def limits(self) -> NDArray[np.float64]:
        """Return the threshold of each class, (classes,)."""
        return np.array(self.thresholds or [DEFAULT_THRESHOLD] * self.scheme.num_classes)

    def decide(self, probabilities: Probabilities) -> NDArray[np.bool_]:
        decided: NDArray[np.bool_] = probabilities >= self.limits()
        return decided

    def cells(self, probabilities: Probabilities, names: Sequence[str] | None) -> list[object]:
        told = range(self.scheme.num_classes) if names is None else names
        decided = map(np.flatnonzero, self.decide(probabilities))
        return [join_labels(told[label] for label in row.tolist()) for row in decided]

    def response(self, probabilities: Probabilities) -> dict[str, Any]:
        decided = np.flatnonzero(self.decide(probabilities)).tolist()
        return {
            "prediction": decided,
            "labels": [self.scheme.classes[label] for label in decided],
            "probabilities": _rounded(probabilities[decided]),
        }

    def details(self, probabilities: Probabilities) -> dict[str, Any]:
        return {"all_probabilities": _rounded(probabilities), "all_labels": list(self.scheme.classes)}

    def thresholds_of(self, truth: NDArray[Any], probabilities: Probabilities) -> tuple[float, ...]:
        return best_thresholds(truth.astype(np.bool_), probabilities)

    def scores(self, truth: NDArray[Any], probabilities: Probabilities) -> dict[str, float]:
        return several_scores(truth.astype(np.bool_), probabilities, self.limits())


def labelling_of(scheme: LabelScheme, thresholds: Sequence[float] = ()) -> Labelling:
    """Return how images of a scheme are labelled; `thresholds` (classes,) are those of several labels."""
    return SeveralLabels(scheme, tuple(thresholds)) if scheme.kind == MULTI else OneLabel(scheme)


def _rounded(probabilities: Probabilities) -> list[float]:
    return [round(value, DIGITS) for value in probabilities.tolist()]
