"""Scores of predictions: the confusion matrix and what follows from it, calibration, the metrics in the log. No torch.

    matrix    (..., classes, classes)      rows are the ground truth, columns the predictions, entries count samples
              (..., classes, classes + 1)  the last column counts samples without a prediction: wrong, but of no class

Scores of classes need no matrix, only its diagonal and its sums, which are `Counts`: 3 numbers for each class instead
of one for each pair of classes. Leading axes are kept, so a stack of matrices or counts (the resamples of a bootstrap)
is scored in one call. Ratios without samples are 0. The scores are those of scikit-learn, and the tests compare the
two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labels import MASKED_FACES, LabelScheme

Matrix = NDArray[Any]  # whole numbers or, in sums of weights, floats
Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """How often each class is right, is the ground truth, and is predicted, (..., classes) each."""

    hits: Matrix
    support: Matrix
    predicted: Matrix


Counted = Matrix | Counts

WHOLE_MATRIX = 200  # classes up to which files hold the whole confusion matrix, above only entries that are not 0


def confusion_matrix(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    num_classes: int,
    columns: int | None = None,
    sample_weight: NDArray[Any] | None = None,
) -> Matrix:
    """Count labels against predictions: class numbers (samples,), twice -> (num_classes, columns).

    `columns` is `num_classes` unless predictions hold `num_classes` itself, which stands for no prediction: then it is
    one more. Entries are int64, or float64 sums of `sample_weight` (samples,) if that is given.
    """
    columns = columns or num_classes
    counts = np.bincount(labels * columns + predictions, sample_weight, minlength=num_classes * columns)
    return counts.reshape(num_classes, columns)


def count(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    scheme: LabelScheme,
    sample_weight: NDArray[Any] | None = None,
) -> Counted:
    """Return what the scores of class numbers (samples,), twice, are computed from; weights as in `confusion_matrix`.

    That is the confusion matrix if the scheme has tasks, whose scores need it, else the `Counts` of its classes. A
    prediction of `num_classes` stands for no prediction.
    """
    classes = scheme.num_classes
    if scheme.tasks:
        columns = classes + bool((predictions == classes).any())
        return confusion_matrix(labels, predictions, classes, columns, sample_weight)
    right = labels == predictions
    return Counts(
        np.bincount(labels[right], None if sample_weight is None else sample_weight[right], minlength=classes),
        np.bincount(labels, sample_weight, minlength=classes),
        np.bincount(predictions, sample_weight, minlength=classes)[:classes],
    )


def stack(parts: Sequence[Any]) -> Any:
    """Stack confusion matrices or tuples of counts, all of one shape, along a new first axis."""
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(np.stack(column) for column in zip(*parts, strict=True)))
    return np.stack(parts)


def pairs_of_classes(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the entries of the confusion matrix that are not 0: rows (label, prediction, samples), sorted."""
    pairs, samples = np.unique(np.stack((labels, predictions), 1), axis=0, return_counts=True)
    return np.column_stack((pairs, samples))


def nested_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int
) -> dict[str, dict[str, int]]:
    """Return the confusion matrix as {"0": {"0": 41, "1": 2}, ...}: samples by ground truth, then by prediction.

    Samples without a prediction are counted under "unanswered", if there are any. Above 200 classes, entries that are 0
    are left out, since their number grows with the square of the classes.
    """
    names = [str(number) for number in range(num_classes)]
    columns = [*names, *(["unanswered"] if (predictions == num_classes).any() else [])]
    if num_classes <= WHOLE_MATRIX:
        matrix = confusion_matrix(labels, predictions, num_classes, len(columns)).tolist()
        return {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, matrix, strict=True)}
    nested: dict[str, dict[str, int]] = {name: {} for name in names}
    for label, prediction, samples in pairs_of_classes(labels, predictions).tolist():
        nested[names[label]][columns[prediction]] = samples
    return nested


def task_matrix(matrix: Matrix, scheme: LabelScheme, task: str) -> Matrix:
    """Sum over the other tasks: the confusion matrix of one, (..., values, values) or (..., values, values + 1)."""
    position = [known.name for known in scheme.tasks].index(task)
    values = len(scheme.tasks[position].classes)
    without_prediction = matrix.shape[-1] - scheme.num_classes  # 1 with such a column, else 0
    digits = [scheme.decode(label)[position] for label in range(scheme.num_classes)]
    sums = np.eye(values + without_prediction, dtype=matrix.dtype)[digits + [values] * without_prediction]
    summed: Matrix = sums[: scheme.num_classes, :values].T @ matrix @ sums
    return summed


def accuracy(counted: Counted) -> Floats:
    """Return the share of samples with the right prediction, (...)."""
    hits, support, _ = counts_of(counted)
    return _ratio(hits.sum(-1), support.sum(-1))


def f_score(counted: Counted, beta: float = 1.0) -> Floats:
    """Return F-beta by class, (..., classes): recall weighs beta times as much as precision (van Rijsbergen, 1979)."""
    hits, support, predicted = counts_of(counted)
    return _ratio((1 + beta**2) * hits, beta**2 * support + predicted)


def macro_f1(counted: Counted) -> Floats:
    """Return the mean F1 over the classes in the ground truth or the predictions, (...).

    The original counted absent classes as 0.
    """
    _, support, predicted = counts_of(counted)
    return _ratio(f_score(counted).sum(-1), (support + predicted > 0).sum(-1))


class PerClass(NamedTuple):
    """Scores by class, (..., classes); support is the number of samples whose ground truth is the class."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Matrix


def per_class(counted: Counted) -> PerClass:
    """Return precision, recall, F1 and support by class."""
    hits, support, predicted = counts_of(counted)
    return PerClass(_ratio(hits, predicted), _ratio(hits, support), f_score(counted), support)


def stacked_scores(counted: Counted, scheme: LabelScheme) -> dict[str, Floats]:
    """Return `accuracy` and `macro_f1`, then both by task (`mask_accuracy`, `mask_macro_f1`, ...): name -> (...)."""
    result = {"accuracy": accuracy(counted), "macro_f1": macro_f1(counted)}
    for task in scheme.tasks:
        assert not isinstance(counted, Counts), "the scores of a task need the confusion matrix"
        part = task_matrix(counted, scheme, task.name)
        result |= {f"{task.name}_accuracy": accuracy(part), f"{task.name}_macro_f1": macro_f1(part)}
    return result


def scores(counted: Counted, scheme: LabelScheme) -> dict[str, float]:
    """Return the `stacked_scores` of one matrix, or its counts, as numbers; `log_name` is what files call them."""
    return {name: float(value) for name, value in stacked_scores(counted, scheme).items()}


def counts_of(counted: Counted) -> Counts:
    """Return the counts of a confusion matrix; counts are returned as they are."""
    if isinstance(counted, Counts):
        return counted
    classes = counted.shape[-2]
    return Counts(np.diagonal(counted, axis1=-2, axis2=-1), counted.sum(-1), counted[..., :classes].sum(-2))


def _ratio(part: Any, whole: Any) -> Floats:
    """Return part / whole, and 0 where the whole is 0."""
    result: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
    return result


class Calibration(NamedTuple):
    """Accuracy by confidence: one value for each bin of confidence, (bins,), and nan in a bin without samples."""

    confidence: Floats
    accuracy: Floats
    samples: NDArray[np.int64]
    expected_error: float


def calibration(labels: NDArray[Any], probabilities: NDArray[Any], bins: int = 15) -> Calibration:
    """Compare confidence with accuracy: labels (samples,), probabilities (samples, classes)."""
    return calibration_of(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins)


def calibration_of(confidence: NDArray[Any], hits: NDArray[np.bool_], bins: int = 15) -> Calibration:
    """Compare the probability of each predicted class (samples,) with whether the prediction is right (samples,).

    Bins have equal width and include their upper edge. The expected calibration error is the mean gap between
    confidence and accuracy, weighted by samples (Guo et al., On Calibration of Modern Neural Networks, 2017,
    equation 3).
    """
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    samples = np.bincount(bin_of, minlength=bins)
    confidences = np.bincount(bin_of, weights=confidence, minlength=bins)
    right = np.bincount(bin_of, weights=hits, minlength=bins)
    error = float(np.abs(confidences - right).sum() / len(hits))
    empty = np.where(samples == 0, np.nan, 0.0)
    return Calibration(_ratio(confidences, samples) + empty, _ratio(right, samples) + empty, samples, error)


@dataclass(frozen=True)
class Metric:
    """One value of the lines that training prints: its name, format and meaning."""

    name: str
    format: str
    meaning: str

    def definition(self) -> dict[str, str]:
        """Return its name and regular expression in SageMaker: `val_f1` is the metric `val:f1`.

        `\\b` keeps `loss` out of `val_loss`. SageMaker takes numbers only, so nan and inf do not match.
        """
        group, _, rest = self.name.partition("_")
        name = f"{group}:{rest}" if group in ("train", "val") else self.name
        return {"Name": name, "Regex": rf"\b{self.name}=([0-9.eE+-]+);"}


def log_name(score: str) -> str:
    """Return the name of a score in logs, in the files of training and in `--metric`: `macro_f1` is `f1` there."""
    return f"{score.removesuffix('macro_f1')}f1" if score.endswith("macro_f1") else score


METRICS = (
    Metric("epoch", "d", "passes over the training images that are complete"),
    Metric("train_loss", ".4g", "mean loss of the training steps, on augmented images"),
    Metric("train_accuracy", ".4f", "accuracy of the training steps, on augmented images"),
    Metric("val_loss", ".4g", "mean loss over all validation images"),
    Metric("val_accuracy", ".4f", "share of validation images whose class, or all of whose labels are right"),
    Metric("val_f1", ".4f", "macro F1 over the classes"),
    *(
        Metric(f"val_{task.name}_{log_name(score)}", ".4f", f"{meaning} of {task.name} alone")
        for task in MASKED_FACES.tasks
        for score, meaning in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))
    ),
    Metric("val_micro_f1", ".4f", "F1 over all pairs of image and class, of several labels"),
    Metric("val_map", ".4f", "mean average precision over the classes, of several labels"),
    Metric("learning_rate", ".4g", "learning rate at the end of the epoch"),
    Metric("images_per_second", ".1f", "training images per second"),
    Metric("val_expected_calibration_error", ".4f", "gap between confidence and accuracy, once at the end"),
)

_FORMATS = {metric.name: metric.format for metric in METRICS}


def log_line(values: Mapping[str, float]) -> str:
    """Return `epoch=3; train_loss=0.4213; val_f1=0.7312;` in the given order, with 4 decimals if not in METRICS."""
    return " ".join(f"{name}={_format(name, value)};" for name, value in values.items())


def _format(name: str, value: float) -> str:
    return format(value, _FORMATS.get(name, "d" if isinstance(value, int) else ".4f"))


def metric_definitions() -> list[dict[str, str]]:
    """Return the `MetricDefinitions` of a SageMaker training job: one for every value in METRICS."""
    return [metric.definition() for metric in METRICS]
