"""Scores of several labels are those of scikit-learn, and thresholds have the highest F1."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from metrics import stack
from set_metrics import (
    average_precision,
    best_thresholds,
    count_sets,
    mean_average_precision,
    set_statistics,
    several_scores,
)

Flags = NDArray[np.bool_]


def predicted(seed: int, images: int = 60, classes: int = 5) -> tuple[Flags, NDArray[np.float32]]:
    """Return ground truth and probabilities, some of them equal; class 3 is never there."""
    draw = np.random.default_rng(seed)
    truth = draw.random((images, classes)) < np.linspace(0.1, 0.6, classes)
    truth[:, 3] = False
    noise = draw.normal(0.5, 0.3, truth.shape) + 0.3 * truth
    return truth, noise.clip(0, 1).round(2).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    truth, probabilities = predicted(seed)
    found, there = average_precision(truth, probabilities), [0, 1, 2, 4]
    expected = average_precision_score(truth[:, there], probabilities[:, there], average=None)
    np.testing.assert_allclose(found[there], expected)
    assert np.isnan(found[3])
    assert mean_average_precision(truth, probabilities) == pytest.approx(expected.mean())


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    truth, probabilities = predicted(seed)
    thresholds = best_thresholds(truth, probabilities)
    assert thresholds[3] == 0.5
    for label in (0, 1, 2, 4):
        precision, recall, _ = precision_recall_curve(truth[:, label], probabilities[:, label])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        decided = probabilities[:, label] >= thresholds[label]
        assert f1_score(truth[:, label], decided) == pytest.approx(best)
        assert not np.isin(thresholds[label], probabilities[:, label]), "a threshold is between two probabilities"


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_label_sets_are_those_of_scikit_learn(seed: int) -> None:
    truth, probabilities = predicted(seed)
    decided = probabilities >= 0.5
    found = {
        name: float(value) for name, value in set_statistics(count_sets(truth, decided, np.ones(60, bool))).items()
    }
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, decided))
    assert found["hamming_loss"] == pytest.approx(hamming_loss(truth, decided))
    labels = np.flatnonzero((truth | decided).any(0))
    for average in ("macro", "micro", "weighted"):
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected = score(truth, decided, average=average, labels=labels, zero_division=0)
            assert found[f"{average}_{name}"] == pytest.approx(expected), (average, name)
    trained = several_scores(truth, probabilities, np.full(5, 0.5))
    assert trained["macro_f1"] == pytest.approx(found["macro_f1"])
    assert trained["micro_f1"] == pytest.approx(found["micro_f1"])
    assert trained["accuracy"] == pytest.approx(found["accuracy"])


def test_an_image_counts_as_often_as_its_weight_says_and_without_an_answer_is_never_right() -> None:
    truth, probabilities = predicted(1)
    decided, times = probabilities >= 0.5, np.random.default_rng(2).integers(0, 3, (4, 60))
    answered = np.arange(60) != 7
    weighted = set_statistics(stack([count_sets(truth, decided, answered, row) for row in times]))
    for number, row in enumerate(times):
        rows = np.repeat(np.arange(60), row)
        repeated = set_statistics(count_sets(truth[rows], decided[rows], answered[rows]))
        for name, value in repeated.items():
            assert weighted[name][number] == pytest.approx(value), name
    nothing = np.zeros((2, 5), bool)
    assert set_statistics(count_sets(nothing, nothing, np.array([True, False])))["accuracy"] == 0.5
