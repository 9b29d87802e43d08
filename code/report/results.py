"""The numbers behind a report: what follows from the answers to labelled images. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labels import LabelScheme
from metrics import Calibration, calibration, confusion_matrix, log_name, per_class, scores

_MOST_MISTAKES = 24
_MOST_CONFUSIONS = 10


@dataclass(frozen=True)
class Results:
    """Answers to labelled images, and what follows from them: labels (n,), probabilities (n, classes)."""

    scheme: LabelScheme
    history: Sequence[Mapping[str, float]]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    metric: str

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        answers: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return answers

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        highest: NDArray[np.float32] = self.probabilities.max(axis=1)
        return highest

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix (classes, classes), rows the ground truth."""
        return confusion_matrix(self.labels, self.predictions, self.scheme.num_classes)

    @cached_property
    def scores(self) -> dict[str, float]:
        return scores(self.matrix, self.scheme)

    @cached_property
    def calibration(self) -> Calibration:
        return calibration(self.labels, self.probabilities)

    @cached_property
    def best_epoch(self) -> int:
        """The first epoch with the highest score; 0 before the first is complete."""
        best = max(self.history, key=lambda row: row[f"val_{self.metric}"], default={"epoch": 0})
        return int(best["epoch"])

    @cached_property
    def mistakes(self) -> NDArray[np.int64]:
        """Indices of the wrong answers, the most confident first, at most 24."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:_MOST_MISTAKES]

    @cached_property
    def confusions(self) -> list[tuple[str, str, int, float]]:
        """The most frequent mistakes: true class, predicted class, images, share of the true class."""
        wrong = self.matrix - np.diag(np.diagonal(self.matrix))
        support = self.matrix.sum(axis=1)
        found = []
        for place in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]:
            truth, answer = divmod(int(place), self.scheme.num_classes)
            if count := int(wrong[truth, answer]):
                names = self.scheme.classes[truth], self.scheme.classes[answer]
                found.append((*names, count, count / int(support[truth])))
        return found

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """Scores by who is in the image: every combination of the tasks after the first, such as gender and age.

        Macro F1 is the mean over the classes of the group, counting false answers from all images.
        """
        tasks = self.scheme.tasks[1:]
        count = prod(len(task.classes) for task in tasks) if tasks else 0
        f1, support = per_class(self.matrix)[2:]
        groups = []
        for first in range(count):
            inside = np.arange(self.scheme.num_classes) % count == first
            if not (present := inside & (support > 0)).any():
                continue
            found = scores(np.where(inside[:, None], self.matrix, 0), self.scheme)
            parts = {task.name: found[f"{task.name}_accuracy"] for task in self.scheme.tasks}
            described = self.scheme.describe(first)
            groups.append(
                {
                    "group": {task.name: described[task.name] for task in tasks},
                    "pictures": int(support[inside].sum()),
                    "accuracy": found["accuracy"],
                    "f1": float(f1[present].mean()),
                    "task_accuracy": parts,
                }
            )
        return groups

    def to_dict(self) -> dict[str, Any]:
        """What metrics.json holds."""
        columns = per_class(self.matrix)._asdict()
        return {
            "pictures": len(self.labels),
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "best_by": self.metric,
            "scores": {log_name(name): value for name, value in self.scores.items()},
            "expected_calibration_error": self.calibration.expected_error,
            "classes": [
                {"name": name} | {key: column[label].item() for key, column in columns.items()}
                for label, name in enumerate(self.scheme.classes)
            ],
            "groups": self.groups,
            "confusion_matrix": self.matrix.tolist(),
        }
