"""The numbers of a report, computed from predictions for labelled images. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration import Fitted, UnsureThresholds
from labels import LabelScheme
from metrics import (
    WHOLE_MATRIX,
    Calibration,
    Counted,
    Matrix,
    calibration,
    confusion_matrix,
    count,
    log_name,
    nested_matrix,
    pairs_of_classes,
    per_class,
    scores,
)

_MOST_MISTAKES = 24
_MOST_CONFUSIONS = 10
_MOST_DRAWN = 40  # classes in the drawn confusion matrix


class Confusion(NamedTuple):
    """A mistake between two classes: number of images, and their share of the images of the true class."""

    true: str
    predicted: str
    images: int
    share: float


class Sure(NamedTuple):
    """Number of images whose prediction is sure, and of those among them whose prediction is right."""

    images: int
    right: int


@dataclass(frozen=True)
class Group:
    """Scores of the images of one group of people, such as women under 30.

    Macro F1 is the mean over the classes of the group; predictions of them for images of other groups count as wrong.
    """

    described: Mapping[str, str]  # task -> value
    images: int
    accuracy: float
    macro_f1: float
    task_accuracy: Mapping[str, float]

    @property
    def values(self) -> list[str]:
        return list(self.described.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the group's entry in metrics.json."""
        return {
            "group": dict(self.described),
            "pictures": self.images,
            "accuracy": self.accuracy,
            log_name("macro_f1"): self.macro_f1,
            "task_accuracy": dict(self.task_accuracy),
        }


class RunResults:
    """What every report tells about a run; these are fields of its subclasses.

    `history` has one row per epoch as in metrics.jsonl; `best_by` is the score in it that selects the epoch of the
    model, or `last`.
    """

    history: Sequence[Mapping[str, float]]
    labels: NDArray[Any]
    best_by: str

    @cached_property
    def scores(self) -> dict[str, float]:
        """Return the scores of the predictions by name."""
        raise NotImplementedError

    @cached_property
    def best_epoch(self) -> int:
        """Return the epoch of the model: the first with the highest score; 0 if the first was not completed."""
        if self.best_by == "last":
            return len(self.history)
        best = max(self.history, key=lambda row: row[f"val_{self.best_by}"], default={"epoch": 0})
        return int(best["epoch"])

    @property
    def epoch_name(self) -> str:
        """Return which epoch the model is of, as the page names it."""
        if not self.history:
            return "first epoch, in which training was stopped"
        return "last epoch" if self.best_by == "last" else "best epoch"

    def overview(self) -> dict[str, Any]:
        """Return what metrics.json begins with."""
        return {
            "pictures": len(self.labels),
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "best_by": self.best_by,
            "scores": {log_name(name): value for name, value in self.scores.items()},
        }


def best_by(settings: Mapping[str, object]) -> str:
    """Return what selects the epoch of the model by the options of a run: a metric, or `last`."""
    return "last" if settings.get("select") == "last" else str(settings.get("metric", "f1"))


def class_rows(names: Sequence[str], counted: Counted) -> list[dict[str, Any]]:
    """Return name, precision, recall, f1 and support of every class."""
    columns = per_class(counted)._asdict()
    return [
        {"name": name} | {key: column[label].item() for key, column in columns.items()}
        for label, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Results(RunResults):
    """Predictions for labelled images: labels (n,), probabilities (n, classes), and the scores they give.

    With `fitted`, the probabilities are calibrated; with `thresholds`, some predictions are unsure.
    """

    scheme: LabelScheme
    history: Sequence[Mapping[str, float]]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    best_by: str
    fitted: Fitted | None = None
    thresholds: UnsureThresholds | None = None

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """Return the predicted classes, (n,)."""
        predictions: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predictions

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Return the probability of every prediction, (n,)."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidence

    @cached_property
    def matrix(self) -> Matrix:
        """Return the confusion matrix (classes, classes), rows the ground truth."""
        return confusion_matrix(self.labels, self.predictions, self.scheme.num_classes)

    @cached_property
    def counted(self) -> Counted:
        """Return what the scores are computed from: without tasks not the matrix, which has a cell for each pair."""
        return count(self.labels, self.predictions, self.scheme)

    @cached_property
    def drawn_classes(self) -> NDArray[np.int64]:
        """Return the classes in the drawn confusion matrix: all, or the 40 with the most mistakes, in their order.

        A mistake counts for its true and for its predicted class. Ties go to the smaller class number.
        """
        classes = self.scheme.num_classes
        if classes <= _MOST_DRAWN:
            return np.arange(classes)
        wrong = self.predictions != self.labels
        mistakes = np.bincount(self.labels[wrong], minlength=classes)
        mistakes += np.bincount(self.predictions[wrong], minlength=classes)
        return np.sort(np.argsort(-mistakes, kind="stable")[:_MOST_DRAWN])

    @cached_property
    def drawn_matrix(self) -> Matrix:
        """Return the rows and columns of `drawn_classes` in the confusion matrix."""
        drawn = self.drawn_classes
        place = np.full(self.scheme.num_classes, -1)
        place[drawn] = np.arange(len(drawn))
        rows, columns = place[self.labels], place[self.predictions]
        inside = (rows >= 0) & (columns >= 0)
        return confusion_matrix(rows[inside], columns[inside], len(drawn))

    @cached_property
    def drawn_support(self) -> NDArray[np.int64]:
        """Return the number of images of each of `drawn_classes`, whatever their prediction."""
        return np.bincount(self.labels, minlength=self.scheme.num_classes)[self.drawn_classes]

    @cached_property
    def scores(self) -> dict[str, float]:
        """Return accuracy and macro F1 over the classes, then of every task."""
        return scores(self.counted, self.scheme)

    @cached_property
    def calibration(self) -> Calibration:
        """Return accuracy by confidence, and the expected calibration error; with a temperature the cross-fitted one.

        On the images that the temperature was fitted on, the error would be too small.
        """
        return self.fitted.after if self.fitted else calibration(self.labels, self.probabilities)

    @cached_property
    def uncalibrated(self) -> Calibration | None:
        """Return accuracy by confidence of the network's own probabilities, if they are not the calibrated ones."""
        return self.fitted.before if self.fitted and self.fitted.scaling.temperature != 1 else None

    @cached_property
    def sure(self) -> Sure | None:
        """Return how many predictions are sure, and how many of those are right; None without thresholds."""
        if self.thresholds is None:
            return None
        is_sure = ~self.thresholds.is_unsure(self.probabilities)
        return Sure(int(is_sure.sum()), int((is_sure & (self.predictions == self.labels)).sum()))

    @cached_property
    def wrong(self) -> int:
        """Return the number of wrong predictions."""
        return int((self.predictions != self.labels).sum())

    @cached_property
    def mistakes(self) -> NDArray[np.int64]:
        """Return the indices of the wrong predictions, by falling confidence, at most 24."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:_MOST_MISTAKES]

    @cached_property
    def confusions(self) -> list[Confusion]:
        """Return the most frequent mistakes, at most 10."""
        pairs, names = pairs_of_classes(self.labels, self.predictions), self.scheme.classes
        wrong = pairs[pairs[:, 0] != pairs[:, 1]]
        worst = wrong[np.argsort(-wrong[:, 2], kind="stable")][:_MOST_CONFUSIONS].tolist()
        support = np.bincount(self.labels).tolist()
        return [
            Confusion(names[label], names[prediction], images, images / support[label])
            for label, prediction, images in worst
        ]

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """Return name, precision, recall, f1 and support of every class."""
        return class_rows(self.scheme.classes, self.counted)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the scores by group of people: every combination of the tasks after the first, with its images."""
        tasks = self.scheme.tasks[1:]
        count = prod(len(task.classes) for task in tasks) if tasks else 0
        f1, support = per_class(self.counted)[2:]
        groups = []
        for first in range(count):
            inside = np.arange(self.scheme.num_classes) % count == first
            if not (present := inside & (support > 0)).any():
                continue
            found = scores(np.where(inside[:, None], self.matrix, 0), self.scheme)
            described = self.scheme.describe(first)
            groups.append(
                Group(
                    described={task.name: described[task.name] for task in tasks},
                    images=int(support[inside].sum()),
                    accuracy=found["accuracy"],
                    macro_f1=float(f1[present].mean()),
                    task_accuracy={task.name: found[f"{task.name}_accuracy"] for task in self.scheme.tasks},
                )
            )
        return groups

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of metrics.json; above 200 classes, the confusion matrix is a `nested_matrix`."""
        is_small = self.scheme.num_classes <= WHOLE_MATRIX
        sparse = None if is_small else nested_matrix(self.labels, self.predictions, self.scheme.num_classes)
        return {
            **self.overview(),
            "expected_calibration_error": self.calibration.expected_error,
            **({"calibration": self.fitted.scaling.to_dict()} if self.fitted else {}),
            **({"sure": self.sure._asdict()} if self.sure else {}),
            "classes": self.classes,
            "groups": [group.to_dict() for group in self.groups],
            "confusion_matrix": self.matrix.tolist() if sparse is None else sparse,
        }
