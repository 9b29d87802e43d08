"""straddling.py: validation images that are in training, too, and the scores without them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from data.image_store import ImageStore
from data.images import Preparation
from labelling.labelling import labelling_of
from labels import LabelScheme
from support.smooth_images import scaled, smooth_image
from training.straddling import describe_straddling, find_straddling

PETS = LabelScheme("pets", ("cat", "dog"))


def images_and_copies(folder: Path) -> list[Path]:
    """Write five images to train on, and five to validate with, of which four are copies."""
    images = [smooth_image(number) for number in range(5)]
    for number, image in enumerate(images):
        image.save(folder / f"{number}.jpg", quality=90)
    images[0].save(folder / "5.jpg", quality=60)
    scaled(images[1], 0.7).save(folder / "6.jpg")
    images[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "7.jpg")
    (folder / "8.jpg").write_bytes((folder / "3.jpg").read_bytes())
    smooth_image(9).save(folder / "9.jpg")
    return [folder / f"{number}.jpg" for number in range(10)]


@pytest.mark.parametrize(("size", "expected"), [((64, 48), [1, 1, 1, 1, 0]), ((16, 12), [0, 0, 0, 1, 0])])
def test_copies_in_the_other_part_are_found(tmp_path: Path, size: tuple[int, int], expected: list[int]) -> None:
    """In very few pixels different images look the same, so only copies of the file count."""
    store = ImageStore(images_and_copies(tmp_path), Preparation(size), processes=1)
    store.wait()
    before = store.pixels.copy()
    train, val = np.arange(5), np.arange(5, 10)
    assert find_straddling(store, train, val).tolist() == expected
    assert np.array_equal(store.pixels, before)


def test_images_that_are_left_out_of_training_do_not_straddle(tmp_path: Path) -> None:
    store = ImageStore(images_and_copies(tmp_path), Preparation((64, 48)), processes=1)
    store.wait()
    assert find_straddling(store, np.array([1, 2, 4]), np.arange(5, 10)).tolist() == [0, 1, 1, 0, 0]


def test_the_sentence_has_the_scores_of_the_other_images_and_those_of_all() -> None:
    labels, classes = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 1, 0, 0, 1, 1])
    straddling = np.array([True, True, False, False, False, False])
    rest = f1_score(labels[2:], classes[2:], average="macro")
    whole = f1_score(labels, classes, average="macro")
    probabilities, labelling = np.eye(PETS.num_classes, dtype=np.float32)[classes], labelling_of(PETS)
    assert describe_straddling(straddling, labels, probabilities, labelling) == [
        "2 of 6 validation images are nearly the same as training images, see `make audit`; without them accuracy is "
        f"0.5000 instead of 0.6667, macro F1 {rest:.4f} instead of {whole:.4f}"
    ]
    assert describe_straddling(np.zeros(6, bool), labels, probabilities, labelling) == []
    (sentence,) = describe_straddling(np.ones(6, bool), labels, probabilities, labelling)
    assert sentence.endswith("see `make audit`; there is no score without them")
