"""suspects.py: planted wrong labels are found, and a model that is often wrong accuses nobody."""

import numpy as np
import pytest
from numpy.typing import NDArray

from data.suspects import AGREEMENT, USUAL, find_suspects, trusted_confidence, usual_confidence
from labels import MASKED_FACES, LabelScheme

PETS = LabelScheme("pets", ("cat", "dog", "fish"))


def predictions(truth: NDArray[np.int64], classes: int, right: float, seed: int = 0) -> NDArray[np.float32]:
    """Return probabilities (n, classes) of a model that is right with this probability, and surer when it is."""
    generator = np.random.default_rng(seed)
    is_right = generator.random(len(truth)) < right
    predicted = np.where(is_right, truth, generator.integers(classes, size=len(truth)))
    confidence = np.where(is_right, generator.uniform(0.7, 1, len(truth)), generator.uniform(0.4, 0.8, len(truth)))
    found = np.repeat((1 - confidence[:, None]) / (classes - 1), classes, 1)
    found[np.arange(len(truth)), predicted] = confidence
    return found.astype(np.float32)


@pytest.mark.parametrize("scheme", [PETS, MASKED_FACES], ids=lambda scheme: scheme.name)
def test_flipped_labels_are_found_with_high_recall_and_precision(scheme: LabelScheme) -> None:
    classes = scheme.num_classes
    truth = np.random.default_rng(1).integers(classes, size=4000)
    labels, flipped = truth.copy(), set(range(0, 4000, 40))
    for index in flipped:
        labels[index] = (labels[index] + 1 + index % (classes - 1)) % classes
    found = {suspect.index for suspect in find_suspects(labels, predictions(truth, classes, 0.97), scheme)}
    assert len(found & flipped) >= 0.8 * len(flipped)
    assert len(found & flipped) >= 0.75 * len(found)


def test_a_model_that_guesses_suspects_nothing() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(3, size=500)
    assert find_suspects(labels, predictions(generator.integers(3, size=500), 3, 1.0), PETS) == []


def test_a_task_that_the_model_has_not_learned_accuses_nobody_and_another_does() -> None:
    """Gender is guessed; one image has the wrong mask."""
    generator = np.random.default_rng(3)
    labels = generator.integers(18, size=400)
    guessed = labels - labels // 3 % 2 * 3 + generator.integers(2, size=400) * 3
    guessed[7] = (labels[7] + 6) % 18
    (suspect,) = find_suspects(labels, np.eye(18, dtype=np.float32)[guessed] * 0.9 + np.float32(0.1 / 18), MASKED_FACES)
    names = MASKED_FACES.tasks[0].classes
    assert (suspect.index, suspect.label, suspect.predicted) == (7, names[labels[7] // 6], names[guessed[7] // 6])


def test_the_surest_come_first() -> None:
    truth = np.zeros(100, np.int64)
    labels = truth.copy()
    labels[[3, 5]] = 1
    probabilities = np.tile(np.array([0.9, 0.05, 0.05], np.float32), (100, 1))
    probabilities[5] = (0.99, 0.005, 0.005)
    assert [suspect.index for suspect in find_suspects(labels, probabilities, PETS)] == [5, 3]


def test_from_the_trusted_confidence_on_the_model_agrees_and_below_it_does_not() -> None:
    confidence = np.linspace(1, 0.5, 40).astype(np.float32)
    for right in (10, 20, 35):
        agrees = np.arange(40) < right
        taken = confidence >= trusted_confidence(agrees, confidence)
        assert agrees[taken].mean() >= AGREEMENT
        assert agrees[: taken.sum() + 1].mean() < AGREEMENT
    agrees = np.arange(40) % 4 > 0
    assert trusted_confidence(agrees, confidence) == float("inf")
    assert trusted_confidence(np.zeros(5, np.bool_), confidence[:5]) == float("inf")
    assert trusted_confidence(agrees[:0], confidence[:0]) == float("inf")


def test_what_is_usual_is_counted_for_each_class() -> None:
    """A class that the model is never quite sure of has suspects, too."""
    predicted = np.arange(100) % 3
    confidence = (np.linspace(1, 0.9, 100) / (1 + predicted)).astype(np.float32)
    agrees = predicted < 2
    usual = usual_confidence(predicted, agrees, confidence)
    for value in (0, 1):
        assert USUAL <= (confidence >= usual)[predicted == value].mean() < USUAL + 0.1
    assert np.isinf(usual[predicted == 2]).all()


def test_images_of_one_confidence_count_together() -> None:
    """Otherwise the order of the files would decide which of them are suspected."""
    agrees = np.array([True, False])
    for order in ([0, 1], [1, 0]):
        assert trusted_confidence(agrees[order], np.ones(2, np.float32)) == float("inf")
