"""A temperature fits confidence to accuracy and is measured honestly; thresholds keep their precision on validation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

import metrics
from calibration import (
    NEVER,
    TemperatureScaling,
    UnsureThresholds,
    calibrate,
    fit_temperature,
    fit_thresholds,
    in_second_half,
)

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def draw(images: int, classes: int, scale: float, seed: int = 0) -> tuple[Logits, Labels]:
    """Return logits that are `scale` times too large, and labels that follow the softmax of the right ones."""
    random = np.random.default_rng(seed)
    right = random.normal(0, 1.5, (images, classes))
    labels = np.array([random.choice(classes, p=shares) for shares in softmax(right, 1)])
    return (right * scale).astype(np.float32), labels


def groups_of(images: int, each: int = 7) -> list[str]:
    return [f"person {image // each}" for image in range(images)]


def loss(logits: Logits, labels: Labels, temperature: float) -> float:
    return float(-log_softmax(logits.astype(np.float64) / temperature, 1)[np.arange(len(labels)), labels].mean())


# the temperature


@pytest.mark.parametrize(("images", "classes", "scale"), [(500, 18, 3.0), (300, 2, 0.4), (100, 200, 6.0), (30, 3, 1.5)])
def test_the_temperature_is_the_one_that_scipy_finds(images: int, classes: int, scale: float) -> None:
    logits, labels = draw(images, classes, scale)
    expected = minimize_scalar(
        lambda log: loss(logits, labels, np.exp(log)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}
    )
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(expected.x), rel=1e-5)


def test_the_temperature_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=600)
    inputs = random.normal(0, 1, (600, 2)) + np.array([[0, 1], [1, 0], [1, 1]])[labels]
    model = LogisticRegression().fit(inputs, labels)
    model.coef_ *= 4
    model.intercept_ *= 4
    twin = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(inputs, labels)
    logits = model.decision_function(inputs).astype(np.float32)
    temperature = fit_temperature(logits, labels)
    assert temperature is not None
    assert temperature > 3
    np.testing.assert_allclose(softmax(logits / temperature, 1), twin.predict_proba(inputs), atol=1e-4)


def test_logits_in_other_units_give_the_temperature_in_those_units() -> None:
    logits, labels = draw(400, 5, 1)
    once, twice = fit_temperature(logits, labels), fit_temperature(2 * logits, labels)
    assert once is not None
    assert twice == pytest.approx(2 * once)
    assert fit_temperature(logits + 100, labels) == pytest.approx(once, rel=1e-4)


def test_many_logits_are_summed_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw(300, 5, 2)
    whole = calibrate(logits, labels, groups_of(300)).scaling
    monkeypatch.setattr("calibration._CHUNK_NUMBERS", 35)
    pieces = calibrate(logits, labels, groups_of(300)).scaling
    assert pieces.temperature == pytest.approx(whole.temperature, rel=1e-9)
    assert pieces.error_after == pytest.approx(whole.error_after)


def test_the_temperature_is_bounded() -> None:
    logits, labels = draw(200, 3, 1)
    assert fit_temperature(logits, (logits.argmax(1) + 1) % 3) == 20, "always wrong: no confidence is right"
    assert fit_temperature(logits, logits.argmax(1)) is None, "always right: nothing shows how often it errs"
    assert fit_temperature(logits * 1e6, labels) == 20
    assert fit_temperature(np.zeros_like(logits), labels) is None


# what is stored about it


def test_the_error_falls_and_the_one_after_is_measured_on_images_that_were_not_fitted_on() -> None:
    logits, labels = draw(700, 6, 4)
    groups = groups_of(700)
    fitted = calibrate(logits, labels, groups)
    assert (fitted.scaling.images, fitted.reason) == (700, "")
    assert fitted.scaling.temperature == fit_temperature(logits, labels)
    before = metrics.calibration(labels, softmax(logits.astype(np.float64), 1))
    assert fitted.scaling.error_before == fitted.before.expected_error == pytest.approx(before.expected_error)
    half = in_second_half(groups)
    crossed = np.empty(logits.shape)
    for part in (half, ~half):
        temperature = fit_temperature(logits[~part], labels[~part])
        assert temperature is not None
        assert temperature != fitted.scaling.temperature
        crossed[part] = softmax(logits[part].astype(np.float64) / temperature, 1)
    assert fitted.scaling.error_after == pytest.approx(metrics.calibration(labels, crossed).expected_error)
    assert fitted.scaling.error_after == fitted.after.expected_error < fitted.scaling.error_before / 3


def test_a_group_is_in_one_half_whatever_the_order_of_the_images() -> None:
    groups = groups_of(105)
    half = in_second_half(groups)
    assert len({(group, bool(is_second)) for group, is_second in zip(groups, half, strict=True)}) == 15
    assert half.sum() == 49
    assert in_second_half(groups[::-1]).tolist() == half.tolist()[::-1]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("one group", "of one group"),
        ("one image", "of one group"),
        ("all right", "all validation images are predicted right"),
        ("hardly trained", "the lowest loss is below 0.05"),
        ("calibrated already", "no other temperature lowers"),
        ("halves that differ", "no other temperature lowers"),
    ],
)
def test_the_temperature_stays_1_with_a_reason_where_nothing_better_is_known(case: str, reason: str) -> None:
    logits, labels = draw(210, 4, 1)
    groups = groups_of(210)
    match case:
        case "one group":
            groups = ["me"] * 210
        case "one image":
            logits, labels, groups = logits[:1], labels[:1], groups[:1]
        case "all right":
            labels = logits.argmax(1)
        case "hardly trained":
            logits /= 1000
        case "calibrated already":
            temperature = fit_temperature(logits, labels)
            assert temperature is not None
            logits = (logits / temperature).astype(np.float32)
        case "halves that differ":
            half = in_second_half(groups)
            labels[half] = logits[half].argmax(1)
            labels[~half] = logits[~half].argmin(1)
    fitted = calibrate(logits, labels, groups)
    assert fitted.scaling.temperature == 1
    assert fitted.scaling.error_after == fitted.scaling.error_before
    assert reason in fitted.reason


def test_one_class_in_validation_is_enough() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (200, 3)).astype(np.float32)
    fitted = calibrate(logits, np.zeros(200, np.int64), groups_of(200, 1))
    assert 1 < fitted.scaling.temperature <= 20


def test_several_labels_of_an_image_are_rejected_by_name() -> None:
    logits = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="a temperature is for one label per image"):
        calibrate(logits, np.zeros((4, 3), np.int64), groups_of(4))
    with pytest.raises(ValueError, match="thresholds are for one label per image"):
        fit_thresholds(np.zeros((4, 3), np.int64), logits, 0.9)


# thresholds


def precision_of(labels: Labels, probabilities: NDArray[np.float32], label: int, threshold: float) -> tuple[float, int]:
    """Return the precision of the predictions of a class at or above a threshold, 0 without any; and their number."""
    chosen = (probabilities.argmax(1) == label) & (probabilities.max(1) >= threshold)
    return (float((labels[chosen] == label).mean()) if chosen.any() else 0.0), int(chosen.sum())


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.95, 1.0]), st.sampled_from([1, 2, 6]))
def test_thresholds_are_the_smallest_that_keep_their_precision(seed: int, wanted: float, digits: int) -> None:
    logits, labels = draw(60, 4, 1, seed)
    probabilities = softmax(logits, 1).round(digits).astype(np.float32)  # with few digits, many are equal
    found = fit_thresholds(labels, probabilities, wanted)
    for label, (threshold, count) in enumerate(zip(found.thresholds, found.images, strict=True)):
        confidences = sorted({*probabilities.max(1)[probabilities.argmax(1) == label].tolist()})
        kept = [value for value in confidences if precision_of(labels, probabilities, label, value)[0] >= wanted]
        assert precision_of(labels, probabilities, label, threshold)[1] == count
        if kept:
            assert precision_of(labels, probabilities, label, threshold) == precision_of(
                labels, probabilities, label, kept[0]
            )
            assert threshold < kept[0], "half-way to the next: rounding decides about none of these images"
            assert threshold == 0 or confidences[confidences.index(kept[0]) - 1] < threshold
        else:
            assert (threshold, count) == (NEVER, 0)
    assert found.never_sure == [label for label, count in enumerate(found.images) if not count]


def test_predictions_below_the_threshold_of_their_class_are_unsure() -> None:
    thresholds = UnsureThresholds(0.9, (0.0, 0.8, NEVER), (5, 3, 0))
    probabilities = [[0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.1, 0.79, 0.11], [0, 0, 1], [np.nan, np.nan, np.nan]]
    found = thresholds.is_unsure(np.array(probabilities, np.float32))
    assert found.tolist() == [False, False, True, True, True]


# model.json


def test_what_is_stored_comes_back() -> None:
    scaling = TemperatureScaling(1.75, 0.2, 0.04, 84)
    assert TemperatureScaling.from_dict(scaling.to_dict()) == scaling
    thresholds = UnsureThresholds(0.95, (0.5, NEVER), (7, 0))
    assert UnsureThresholds.from_dict(thresholds.to_dict(), 2) == thresholds


@pytest.mark.parametrize("changes", [{"temperature": 0}, {"temperature": "nan"}, {"temperature": -1}, {"images": "x"}])
def test_a_temperature_that_no_training_writes_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"temperature|invalid literal"):
        TemperatureScaling.from_dict(TemperatureScaling(1.75, 0.2, 0.04, 84).to_dict() | changes)


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 0.5], [0.5, "nan"], [0.5, None]])
def test_thresholds_that_are_not_one_number_for_each_class_are_rejected(thresholds: list[Any]) -> None:
    record = UnsureThresholds(0.95, (0.5, NEVER), (7, 0)).to_dict() | {"thresholds": thresholds}
    with pytest.raises((ValueError, TypeError)):
        UnsureThresholds.from_dict(record, 2)
