"""Probabilities become labels, cells and responses as the kind of the scheme says."""

import numpy as np
import pytest

from labelling.labelling import labelling_of
from labels import MASKED_FACES, MULTI, LabelScheme, join_labels, split_labels
from runtime.errors import DataError

PETS = LabelScheme("pets", ("cat", "dog", "fish"), kind=MULTI)
FOUND = np.array([[0.5, 0.2, 0.9], [0.1, 0.4, 0.3], [0.6, 0.1, 0.49]], np.float32)


def test_an_image_has_the_classes_that_reach_their_threshold() -> None:
    plain, chosen = labelling_of(PETS), labelling_of(PETS, (0.55, 0.15, 0.95))
    assert plain.cells(FOUND, None) == ["0|2", "|", "0"]
    assert chosen.cells(FOUND, None) == ["1", "1", "0"]
    assert plain.cells(FOUND, PETS.classes) == ["cat|fish", "|", "cat"]
    assert plain.response(FOUND[0]) == {"prediction": [0, 2], "labels": ["cat", "fish"], "probabilities": [0.5, 0.9]}
    assert plain.response(FOUND[1]) == {"prediction": [], "labels": [], "probabilities": []}
    assert plain.details(FOUND[1]) == {"all_probabilities": [0.1, 0.4, 0.3], "all_labels": ["cat", "dog", "fish"]}


def test_one_label_has_no_thresholds() -> None:
    labelling = labelling_of(MASKED_FACES)
    found = np.full((2, 18), 0.05, np.float32)
    found[:, 7] = 0.15
    assert labelling.cells(found, None) == [7, 7]
    assert labelling.thresholds_of(np.array([7, 7]), found) == ()
    assert labelling.response(found[0])["mask"] == "incorrect"


def test_a_scheme_of_several_labels_comes_back_from_json_and_one_of_one_label_is_written_as_ever() -> None:
    assert LabelScheme.from_dict(PETS.to_dict()) == PETS
    assert "kind" not in MASKED_FACES.to_dict()
    with pytest.raises(DataError, match="is of the kind 'multi', expected single or multi"):
        LabelScheme("x", MASKED_FACES.classes, MASKED_FACES.tasks, MULTI)
    with pytest.raises(DataError, match="is of the kind 'pairs'"):
        LabelScheme("x", ("a", "b"), kind="pairs")


@pytest.mark.parametrize("labels", [[], ["a"], ["b", "a"], ["x y", "1.0"]])
def test_a_text_of_labels_comes_back(labels: list[str]) -> None:
    assert split_labels(join_labels(labels)) == labels
    assert join_labels(labels) != ""
