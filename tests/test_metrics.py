"""metrics.py: scores equal scikit-learn's for any confusion matrix, and for counts without one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn import calibration as sklearn_calibration
from sklearn import metrics as sklearn_metrics

import metrics
from labels import MASKED_FACES, LabelScheme

CLASSES = MASKED_FACES.num_classes
PLAIN = LabelScheme("pets", ("cat", "dog", "fish"))

Labels = NDArray[np.int64]


def count(labels: Labels, predictions: Labels, columns: int = CLASSES) -> metrics.Matrix:
    return metrics.confusion_matrix(labels, predictions, CLASSES, columns)


@st.composite
def labels_and_predictions(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Draw labels and predictions in which most classes may be absent, and right predictions are common or rare."""
    known = draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=CLASSES, unique=True))
    pairs = draw(st.lists(st.tuples(*[st.sampled_from(known)] * 2, st.booleans()), min_size=1, max_size=60))
    labels = np.array([label for label, _, _ in pairs])
    predictions = np.array([label if right else other for label, other, right in pairs])
    return labels, predictions


# The confusion matrix


@pytest.mark.parametrize("classes", [2, 18, 101])
def test_the_confusion_matrix_is_that_of_scikit_learn(classes: int) -> None:
    labels, predictions = np.random.default_rng(1).integers(classes, size=(2, 5000))
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(classes))
    matrix = metrics.confusion_matrix(labels, predictions, classes)
    assert matrix.dtype == np.int64
    assert_array_equal(matrix, expected)


def test_weighted_samples_are_counted_as_by_scikit_learn() -> None:
    labels, predictions = np.random.default_rng(4).integers(CLASSES, size=(2, 300))
    weight = np.random.default_rng(5).random(300)
    matrix = metrics.confusion_matrix(labels, predictions, CLASSES, sample_weight=weight)
    known = range(CLASSES)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=known, sample_weight=weight)
    assert_allclose(matrix, expected)


def test_the_confusion_matrix_keeps_classes_that_do_not_occur() -> None:
    expected = [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.confusion_matrix(np.array([1, 1]), np.array([1, 0]), 4).tolist() == expected


def test_samples_without_a_prediction_are_counted_in_one_more_column() -> None:
    matrix = metrics.confusion_matrix(np.array([0, 1, 1]), np.array([0, 2, 1]), 2, columns=3)
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize("classes", [3, 18, 300])
def test_a_nested_matrix_counts_every_sample_and_leaves_out_zeros_only_if_there_are_many_classes(classes: int) -> None:
    labels, predictions = np.random.default_rng(2).integers(classes, size=(2, 500))
    predictions[:5] = classes
    nested = metrics.nested_matrix(labels, predictions, classes)
    matrix = metrics.confusion_matrix(labels, predictions, classes, classes + 1)
    names = [*map(str, range(classes)), "unanswered"]
    found = {
        (label, names.index(column)): samples
        for label in range(classes)
        for column, samples in nested[str(label)].items()
    }
    assert found == {cell: matrix[cell] for cell in np.ndindex(matrix.shape) if classes <= 200 or matrix[cell]}


# Counts


@given(labels_and_predictions(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_counts_give_the_scores_of_the_confusion_matrix(pair: tuple[Labels, Labels], weighted: bool) -> None:
    labels, predictions = pair[0], np.where(pair[1] == 3, CLASSES, pair[1])  # some samples have no prediction
    plain = LabelScheme("numbers", tuple(map(str, range(CLASSES))))
    weight = np.arange(len(labels)) if weighted else None
    matrix = metrics.confusion_matrix(labels, predictions, CLASSES, CLASSES + 1, weight)
    counts = metrics.count(labels, predictions, plain, weight)
    assert isinstance(counts, metrics.Counts)
    assert metrics.scores(counts, plain) == metrics.scores(matrix, plain)
    for ours, theirs in zip(metrics.per_class(counts), metrics.per_class(matrix), strict=True):
        assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_counts_grow_with_the_classes_not_with_their_square() -> None:
    scheme = LabelScheme("numbers", tuple(map(str, range(1_000_000))))  # a matrix would take 8 TB
    labels = np.array([0, 1, 999_999])
    assert metrics.scores(metrics.count(labels, labels, scheme), scheme) == {"accuracy": 1.0, "macro_f1": 1.0}


# Scores


@given(labels_and_predictions())
@settings(deadline=None, max_examples=50)
def test_scores_are_those_of_scikit_learn(pair: tuple[Labels, Labels]) -> None:
    labels, predictions = pair
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predictions),
        "macro_f1": sklearn_metrics.f1_score(labels, predictions, average="macro"),
    }
    for position, task in enumerate(MASKED_FACES.tasks):
        task_labels = [MASKED_FACES.decode(label)[position] for label in labels]
        task_predictions = [MASKED_FACES.decode(label)[position] for label in predictions]
        expected[f"{task.name}_accuracy"] = sklearn_metrics.accuracy_score(task_labels, task_predictions)
        expected[f"{task.name}_macro_f1"] = sklearn_metrics.f1_score(task_labels, task_predictions, average="macro")
    scores = metrics.scores(count(labels, predictions), MASKED_FACES)
    assert scores == pytest.approx(expected)
    assert all(type(value) is float for value in scores.values())


@given(labels_and_predictions(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=50)
def test_every_class_is_scored_as_by_scikit_learn(pair: tuple[Labels, Labels], beta: float) -> None:
    labels, predictions = pair
    precision, recall, f_beta, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, beta=beta, labels=range(CLASSES), zero_division=0.0
    )
    matrix = count(labels, predictions)
    ours = metrics.per_class(matrix)
    assert_allclose(ours.precision, precision)
    assert_allclose(ours.recall, recall)
    assert_array_equal(ours.support, support)
    assert_allclose(metrics.f_score(matrix, beta), f_beta)
    assert_allclose(ours.f1, metrics.f_score(matrix, 1.0))


def test_classes_that_do_not_occur_do_not_lower_macro_f1() -> None:
    """The original gave 0.5 to perfect predictions when only 9 of 18 classes occurred."""
    labels = np.arange(9)
    assert metrics.scores(count(labels, labels), MASKED_FACES)["macro_f1"] == 1.0


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    assert metrics.macro_f1(np.array([[2, 0, 1], [0, 3, 0], [0, 0, 0]])) == pytest.approx((0.8 + 1 + 0) / 3)


def test_a_sample_without_a_prediction_is_wrong_but_of_no_class() -> None:
    labels, predictions = np.array([0, 0, 7, 17]), np.array([0, CLASSES, 7, CLASSES])
    matrix = count(labels, predictions, CLASSES + 1)
    scores = metrics.scores(matrix, MASKED_FACES)
    nowhere = np.where(predictions == CLASSES, -1, predictions)
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(labels, nowhere, labels=[0, 7, 17], average="macro", zero_division=0.0)
    )
    assert scores["mask_accuracy"] == scores["gender_accuracy"] == scores["age_accuracy"] == 0.5
    assert metrics.per_class(matrix).precision[[0, 7, 17]].tolist() == [1.0, 1.0, 0.0]
    assert metrics.task_matrix(matrix, MASKED_FACES, "gender").tolist() == [[2, 0, 1], [0, 0, 1]]


def test_task_matrix_keeps_every_sample_as_a_whole_number() -> None:
    labels, predictions = np.random.default_rng(3).integers(CLASSES, size=(2, 400))
    for task in MASKED_FACES.tasks:
        matrix = metrics.task_matrix(count(labels, predictions), MASKED_FACES, task.name)
        assert matrix.shape == (len(task.classes), len(task.classes))
        assert matrix.dtype == np.int64
        assert matrix.sum() == 400


def test_a_stack_of_matrices_is_scored_like_each_alone() -> None:
    stack = np.random.default_rng(5).integers(4, size=(6, CLASSES, CLASSES + 1))
    assert_allclose(metrics.macro_f1(stack), [metrics.macro_f1(matrix) for matrix in stack])
    assert_allclose(metrics.accuracy(stack), [metrics.accuracy(matrix) for matrix in stack])
    alone = [metrics.task_matrix(matrix, MASKED_FACES, "age") for matrix in stack]
    assert_array_equal(metrics.task_matrix(stack, MASKED_FACES, "age"), alone)


def test_a_scheme_without_tasks_has_two_scores() -> None:
    assert metrics.scores(np.eye(3, dtype=np.int64), PLAIN) == {"accuracy": 1.0, "macro_f1": 1.0}


def test_a_matrix_without_samples_scores_zero() -> None:
    assert metrics.scores(np.zeros((3, 3), dtype=np.int64), PLAIN) == {"accuracy": 0.0, "macro_f1": 0.0}


# Calibration


def test_calibration_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(4, 0.5), size=2000)
    labels = generator.integers(4, size=2000)
    ours = metrics.calibration(labels, probabilities, bins=10)
    right = probabilities.argmax(axis=1) == labels
    fraction, mean = sklearn_calibration.calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    filled = ours.samples > 0
    assert_allclose(ours.accuracy[filled], fraction)
    assert_allclose(ours.confidence[filled], mean)
    assert ours.expected_error == pytest.approx((ours.samples[filled] / 2000 * abs(fraction - mean)).sum())


def test_calibration_of_a_bin_without_samples_is_nan() -> None:
    probabilities = np.array([[1.0, 0.0], [0.4, 0.6], [0.6, 0.4], [0.4, 0.6]])
    ours = metrics.calibration(np.array([0, 1, 0, 0]), probabilities, bins=5)
    assert ours.samples.tolist() == [0, 0, 3, 0, 1]  # 0.6 is the upper edge of the third bin
    assert np.isnan(ours.confidence[[0, 1, 3]]).all()
    assert np.isnan(ours.accuracy[[0, 1, 3]]).all()
    assert ours.accuracy[[2, 4]].tolist() == [pytest.approx(2 / 3), 1.0]
    assert ours.expected_error == pytest.approx(3 / 4 * (2 / 3 - 0.6))


def test_expected_calibration_error_of_certain_mistakes_is_one() -> None:
    assert metrics.calibration(np.array([1, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])).expected_error == 1.0
