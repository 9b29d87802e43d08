"""How good answers are: the confusion matrix and what follows from it, calibration, and the line of the log. No torch.

    matrix    (..., classes, classes)      rows are the truth, columns the answers, entries count samples
              (..., classes, classes + 1)  the last column counts samples without an answer: wrong, but of no class

Leading axes are kept, so a stack of matrices (the resamples of a bootstrap) is scored in one call. Ratios without
samples are 0. The scores are those of scikit-learn, and the tests compare the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labels import MASKED_FACES, LabelScheme

if TYPE_CHECKING:
    from torch import Tensor

Matrix = NDArray[Any]  # whole numbers or, in sums of weights, floats
Floats = NDArray[np.float64]


def confusion_matrix(labels: "Tensor", predictions: "Tensor", num_classes: int) -> "Tensor":
    """Count truths against answers where they are: (samples,) class numbers, twice -> (classes, classes), int64.

    The host never waits for a GPU: bincount reads its maximum back, and so does scatter_add where deterministic
    algorithms are on. Products of zeros and ones in float64 are exact, in any order, and no autocast touches them.
    """
    classes = labels.new_ones(num_classes).cumsum(0) - 1  # 0 .. classes - 1, made on the device
    truths = (labels[:, None] == classes).double()  # (samples, classes)
    answers = (predictions[:, None] == classes).double()
    return (truths.T @ answers).long()


def task_matrix(matrix: Matrix, scheme: LabelScheme, task: str) -> Matrix:
    """Sum over the other tasks: the confusion matrix of one, (..., values, values) or (..., values, values + 1)."""
    position = [known.name for known in scheme.tasks].index(task)
    values = len(scheme.tasks[position].classes)
    unanswered = matrix.shape[-1] - scheme.num_classes  # 1 with such a column, else 0
    digits = [scheme.decode(label)[position] for label in range(scheme.num_classes)]
    sums = np.eye(values + unanswered, dtype=matrix.dtype)[digits + [values] * unanswered]
    summed: Matrix = sums[: scheme.num_classes, :values].T @ matrix @ sums
    return summed


def accuracy(matrix: Matrix) -> Floats:
    """Share of right answers among all samples, (...)."""
    hits, support, _ = _counts(matrix)
    return _ratio(hits.sum(-1), support.sum(-1))


def f_score(matrix: Matrix, beta: float = 1.0) -> Floats:
    """F-beta of every class, (..., classes): recall counts beta times as much as precision (van Rijsbergen, 1979)."""
    hits, support, answered = _counts(matrix)
    return _ratio((1 + beta**2) * hits, beta**2 * support + answered)


def macro_f1(matrix: Matrix) -> Floats:
    """Mean F1 over the classes that occur in truth or answers, (...); the original counted absent classes as 0."""
    _, support, answered = _counts(matrix)
    return _ratio(f_score(matrix).sum(-1), (support + answered > 0).sum(-1))


class PerClass(NamedTuple):
    """One number per class and score, (..., classes); support is how many samples truly are of the class."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Matrix


def per_class(matrix: Matrix) -> PerClass:
    """Precision, recall, F1 and support of every class."""
    hits, support, answered = _counts(matrix)
    return PerClass(_ratio(hits, answered), _ratio(hits, support), f_score(matrix), support)


def scores(matrix: Matrix, scheme: LabelScheme) -> dict[str, float]:
    """Accuracy and macro F1 (`f1`) of one matrix, then both for each task: `mask_accuracy`, `mask_f1` ..."""
    result = {"accuracy": float(accuracy(matrix)), "f1": float(macro_f1(matrix))}
    for task in scheme.tasks:
        part = task_matrix(matrix, scheme, task.name)
        result |= {f"{task.name}_accuracy": float(accuracy(part)), f"{task.name}_f1": float(macro_f1(part))}
    return result


def _counts(matrix: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Right answers, truths and answers of every class, (..., classes) each."""
    classes = matrix.shape[-2]
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix[..., :classes].sum(-2)


def _ratio(part: Any, whole: Any) -> Floats:
    """part / whole, and 0 where the whole is 0."""
    result: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
    return result


class Calibration(NamedTuple):
    """How far confidence can be trusted; per bin of confidence, (bins,), and nan in a bin without samples."""

    confidence: Floats
    accuracy: Floats
    samples: NDArray[np.int64]
    expected_error: float


def calibration(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 15) -> Calibration:
    """Compare confidence with accuracy: labels (samples,), probabilities (samples, classes).

    Bins are equally wide and hold their upper edge. The expected calibration error is the mean gap between confidence
    and accuracy, weighted by samples (Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    samples = np.bincount(bin_of, minlength=bins)
    confidences = np.bincount(bin_of, weights=confidence, minlength=bins)
    hits = np.bincount(bin_of, weights=right, minlength=bins)
    error = float(np.abs(confidences - hits).sum() / len(labels))
    empty = np.where(samples == 0, np.nan, 0.0)
    return Calibration(_ratio(confidences, samples) + empty, _ratio(hits, samples) + empty, samples, error)


@dataclass(frozen=True)
class Metric:
    """One value of the line that training prints per epoch, and how it is written."""

    name: str
    format: str
    meaning: str

    def definition(self) -> dict[str, str]:
        """SageMaker's name and regular expression for it: `val_f1` is the metric `val:f1`.

        `\\b` keeps `loss` out of `val_loss`. SageMaker takes numbers only, so nan and inf do not match.
        """
        group, _, rest = self.name.partition("_")
        name = f"{group}:{rest}" if group in ("train", "val") else self.name
        return {"Name": name, "Regex": rf"\b{self.name}=([0-9.eE+-]+);"}


METRICS = (
    Metric("epoch", "d", "passes over the training images that are complete"),
    Metric("train_loss", ".4g", "mean loss of the training steps, on augmented images"),
    Metric("train_accuracy", ".4f", "accuracy of the training steps, on augmented images"),
    Metric("val_loss", ".4g", "mean loss over all validation images"),
    Metric("val_accuracy", ".4f", "share of validation images whose class is right"),
    Metric("val_f1", ".4f", "macro F1 over the classes"),
    *(
        Metric(f"val_{task.name}_{score}", ".4f", f"{meaning} of {task.name} alone")
        for task in MASKED_FACES.tasks
        for score, meaning in (("accuracy", "accuracy"), ("f1", "macro F1"))
    ),
    Metric("learning_rate", ".4g", "learning rate at the end of the epoch"),
    Metric("images_per_second", ".1f", "training images per second"),
)

_FORMATS = {metric.name: metric.format for metric in METRICS}


def log_line(values: Mapping[str, float]) -> str:
    """`epoch=3; train_loss=0.4213; val_f1=0.7312;` in the order given; what METRICS does not list gets 4 decimals."""
    return " ".join(f"{name}={_written(name, value)};" for name, value in values.items())


def _written(name: str, value: float) -> str:
    return format(value, _FORMATS.get(name, "d" if isinstance(value, int) else ".4f"))


def metric_definitions() -> list[dict[str, str]]:
    """`MetricDefinitions` of a SageMaker training job: one for every value in METRICS."""
    return [metric.definition() for metric in METRICS]
