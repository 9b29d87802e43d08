"""results.py: the numbers of a report equal scikit-learn's."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from calibration import calibrate, fit_thresholds
from labels import MASKED_FACES, LabelScheme
from metrics import calibration
from report.results import Results

ANIMALS = LabelScheme("animals", ("cat", "dog", "horse"))


def predict(scheme: LabelScheme, images: int = 600, best_by: str = "f1") -> Results:
    """Return results for random labels, and probabilities that are highest for the right class more often than not."""
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
    return Results(scheme, history, labels, probabilities.astype(np.float32), best_by)


def test_the_matrix_is_that_of_scikit_learn() -> None:
    results = predict(MASKED_FACES)
    expected = sklearn_metrics.confusion_matrix(results.labels, results.predictions, labels=range(18))
    np.testing.assert_array_equal(results.matrix, expected)


def test_metrics_json_agrees_with_scikit_learn_and_is_strict_json() -> None:
    results = predict(MASKED_FACES)
    record = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    labels, predictions = results.labels, results.predictions
    assert record["scores"]["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    assert record["scores"]["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average="macro"))
    assert record["scores"]["age_f1"] == pytest.approx(
        sklearn_metrics.f1_score(labels % 3, predictions % 3, average="macro")
    )
    columns = sklearn_metrics.precision_recall_fscore_support(labels, predictions, labels=range(18))
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        np.testing.assert_allclose([row[name] for row in record["classes"]], column)
    assert [row["name"] for row in record["classes"]] == list(MASKED_FACES.classes)
    assert (record["pictures"], record["epochs"]) == (600, 3)


def test_a_group_has_the_scores_of_its_images() -> None:
    results = predict(MASKED_FACES)
    labels, predictions = results.labels, results.predictions
    assert len(results.groups) == 6
    for number, group in enumerate(results.groups):
        gender, age = divmod(number, 3)
        inside = (labels // 3 % 2 == gender) & (labels % 3 == age)
        described = MASKED_FACES.describe(number)
        assert group.described == {"gender": described["gender"], "age": described["age"]}
        assert group.images == inside.sum()
        assert group.accuracy == pytest.approx((labels == predictions)[inside].mean())
        assert group.task_accuracy["mask"] == pytest.approx((labels // 6 == predictions // 6)[inside].mean())
        classes = [mask * 6 + number for mask in range(3)]
        expected = sklearn_metrics.f1_score(labels, predictions, labels=classes, average="macro")
        assert group.macro_f1 == pytest.approx(expected)


def test_a_group_without_images_is_left_out() -> None:
    young = predict(MASKED_FACES).probabilities
    results = Results(MASKED_FACES, [], np.zeros(len(young), np.int64), young, "f1")
    assert [group.described for group in results.groups] == [{"gender": "male", "age": "under 30"}]


def test_a_scheme_without_tasks_has_no_groups() -> None:
    assert predict(ANIMALS).groups == []


def test_the_worst_mistakes_are_ordered_by_falling_confidence() -> None:
    results = predict(MASKED_FACES)
    wrong = results.predictions != results.labels
    assert wrong[results.mistakes].all()
    assert len(results.mistakes) == 24
    expected = np.sort(results.confidence[wrong])[::-1][:24]
    np.testing.assert_array_equal(results.confidence[results.mistakes], expected)


def test_confusions_are_the_largest_cells_off_the_diagonal() -> None:
    matrix = np.array([[5, 0, 3], [1, 9, 0], [0, 0, 2]])
    labels, predictions = np.repeat(np.indices((3, 3)).reshape(2, -1), matrix.ravel(), axis=1)
    results = Results(ANIMALS, [], labels, np.eye(3, dtype=np.float32)[predictions], "f1")
    assert results.confusions == [("cat", "horse", 3, 3 / 8), ("dog", "cat", 1, 1 / 10)]


@pytest.mark.parametrize(("metric", "epoch"), [("f1", 2), ("accuracy", 1), ("last", 3)])
def test_the_epoch_of_the_model_is_the_first_with_the_highest_score_or_the_last(metric: str, epoch: int) -> None:
    assert predict(ANIMALS, best_by=metric).best_epoch == epoch


def test_many_classes_are_drawn_as_the_40_with_the_most_mistakes() -> None:
    scheme = LabelScheme("numbers", tuple(map(str, range(1000))))
    labels = np.repeat(np.arange(1000), 3)
    predictions = labels.copy()
    predictions[3 * np.arange(5, 1000, 25)] = 7  # one of three images of 40 classes is taken for class 7
    predictions = np.where(labels == 905, 904, predictions)
    results = Results(scheme, [], labels, np.eye(1000, dtype=np.float32)[predictions], "f1")
    assert len(results.drawn_classes) == len(results.drawn_matrix) == 40
    assert {7, 904, 905} <= set(results.drawn_classes.tolist())
    place = results.drawn_classes.tolist().index
    assert results.drawn_matrix[place(905), place(904)] == 3
    assert results.drawn_matrix[place(30)].sum() == 3
    assert results.drawn_support.tolist() == [3] * 40
    assert "matrix" not in vars(results)


def test_metrics_json_of_many_classes_holds_no_zero_of_the_confusion_matrix() -> None:
    scheme = LabelScheme("numbers", tuple(map(str, range(1000))))
    record = predict(scheme, images=300).to_dict()
    cells = [images for row in record["confusion_matrix"].values() for images in row.values()]
    assert sum(cells) == 300
    assert min(cells) == 1
    assert isinstance(predict(ANIMALS).to_dict()["confusion_matrix"], list)


def test_the_error_is_the_cross_fitted_one_and_unsure_predictions_are_counted() -> None:
    plain = predict(ANIMALS)
    logits = 3 * np.log(plain.probabilities)
    fitted = calibrate(logits, plain.labels, [str(image // 7) for image in range(600)])
    assert fitted.scaling.temperature > 1.4
    probabilities = softmax(logits / fitted.scaling.temperature, 1)
    thresholds = fit_thresholds(plain.labels, probabilities, 0.9)
    results = replace(plain, probabilities=probabilities, fitted=fitted, thresholds=thresholds)
    assert (results.calibration, results.uncalibrated) == (fitted.after, fitted.before)
    record = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert record["expected_calibration_error"] == fitted.scaling.error_after < fitted.scaling.error_before
    assert record["calibration"] == fitted.scaling.to_dict()
    is_sure = ~thresholds.is_unsure(probabilities)
    assert record["sure"] == {
        "images": is_sure.sum(),
        "right": (is_sure & (results.predictions == results.labels)).sum(),
    }
    assert 0 < record["sure"]["images"] < 600
    assert record["sure"]["right"] / record["sure"]["images"] >= 0.9


def test_without_a_temperature_the_error_is_that_of_the_probabilities() -> None:
    results = predict(ANIMALS)
    assert results.calibration.expected_error == calibration(results.labels, results.probabilities).expected_error
    assert (results.uncalibrated, results.sure) == (None, None)
    assert not {"calibration", "sure"} & results.to_dict().keys()
