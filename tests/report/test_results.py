"""results.py: the numbers of the report are those of scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from labels import MASKED_FACES, LabelScheme
from report.results import Results

ANIMALS = LabelScheme("animals", ("cat", "dog", "horse"))


def answers(scheme: LabelScheme, images: int = 600, metric: str = "f1") -> Results:
    """Labels, and probabilities that lean towards them."""
    random = np.random.default_rng(0)
    labels = random.integers(0, scheme.num_classes, images)
    logits = random.normal(0, 1, (images, scheme.num_classes))
    logits[np.arange(images), labels] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    history = [
        {"epoch": 1, "val_f1": 0.1, "val_accuracy": 0.5},
        {"epoch": 2, "val_f1": 0.3, "val_accuracy": 0.4},
        {"epoch": 3, "val_f1": 0.3, "val_accuracy": 0.4},
    ]
    return Results(scheme, history, labels, probabilities.astype(np.float32), metric)


def test_the_matrix_is_that_of_scikit_learn() -> None:
    results = answers(MASKED_FACES)
    expected = sklearn_metrics.confusion_matrix(results.labels, results.predictions, labels=range(18))
    np.testing.assert_array_equal(results.matrix, expected)


def test_metrics_agree_with_scikit_learn_and_are_strict_json() -> None:
    results = answers(MASKED_FACES)
    record = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    truth, said = results.labels, results.predictions
    assert record["scores"]["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, said))
    assert record["scores"]["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, said, average="macro"))
    assert record["scores"]["age_f1"] == pytest.approx(sklearn_metrics.f1_score(truth % 3, said % 3, average="macro"))
    columns = sklearn_metrics.precision_recall_fscore_support(truth, said, labels=range(18))
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        np.testing.assert_allclose([row[name] for row in record["classes"]], column)
    assert [row["name"] for row in record["classes"]] == list(MASKED_FACES.classes)
    assert (record["pictures"], record["epochs"]) == (600, 3)


def test_groups_have_the_scores_of_the_images_of_their_people() -> None:
    results = answers(MASKED_FACES)
    truth, said = results.labels, results.predictions
    assert len(results.groups) == 6
    for number, group in enumerate(results.groups):
        gender, age = divmod(number, 3)
        inside = (truth // 3 % 2 == gender) & (truth % 3 == age)
        described = MASKED_FACES.describe(number)
        assert group["group"] == {"gender": described["gender"], "age": described["age"]}
        assert group["pictures"] == inside.sum()
        assert group["accuracy"] == pytest.approx((truth == said)[inside].mean())
        assert group["task_accuracy"]["mask"] == pytest.approx((truth // 6 == said // 6)[inside].mean())
        labels = [mask * 6 + number for mask in range(3)]
        expected = sklearn_metrics.f1_score(truth, said, labels=labels, average="macro")
        assert group["f1"] == pytest.approx(expected)


def test_a_group_without_images_is_left_out() -> None:
    young = answers(MASKED_FACES).probabilities
    results = Results(MASKED_FACES, [], np.zeros(len(young), np.int64), young, "f1")
    assert [group["group"] for group in results.groups] == [{"gender": "male", "age": "under 30"}]


def test_a_scheme_without_tasks_has_no_groups() -> None:
    assert answers(ANIMALS).groups == []


def test_the_worst_mistakes_are_wrong_and_the_most_confident_first() -> None:
    results = answers(MASKED_FACES)
    wrong = results.predictions != results.labels
    assert wrong[results.mistakes].all()
    assert len(results.mistakes) == 24
    expected = np.sort(results.confidence[wrong])[::-1][:24]
    np.testing.assert_array_equal(results.confidence[results.mistakes], expected)


def test_confusions_are_the_largest_cells_off_the_diagonal() -> None:
    matrix = np.array([[5, 0, 3], [1, 9, 0], [0, 0, 2]])
    truth, said = np.repeat(np.indices((3, 3)).reshape(2, -1), matrix.ravel(), axis=1)
    results = Results(ANIMALS, [], truth, np.eye(3, dtype=np.float32)[said], "f1")
    assert results.confusions == [("cat", "horse", 3, 3 / 8), ("dog", "cat", 1, 1 / 10)]


@pytest.mark.parametrize(("metric", "epoch"), [("f1", 2), ("accuracy", 1)])
def test_the_best_epoch_is_the_first_with_the_highest_score(metric: str, epoch: int) -> None:
    assert answers(ANIMALS, metric=metric).best_epoch == epoch
