"""Heat maps in a report: which images have one, how it is drawn, and what the page says without any."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labels import LabelScheme
from report.heat import MOST_CLASSES, Explain, Explained, NoHeatMap, blend, examples, overlay, place_of
from report.results import Results
from report.write import write_report

PETS = LabelScheme("pets", ("cat", "dog", "horse"))


def corner(indices: Sequence[int], images: NDArray[np.uint8], classes: NDArray[np.int64]) -> Explained:
    """Return heat at the right lower corner of every image."""
    assert len(indices) == len(images) == len(classes)
    maps = np.zeros((len(images), 4, 3), np.float32)
    maps[:, 3, 2] = 1
    return Explained(maps, "blocks.2", (4, 3))


def none(indices: Sequence[int], images: NDArray[np.uint8], classes: NDArray[np.int64]) -> Explained:
    raise NoHeatMap("no layer has an output that is a grid")


def results_of(scheme: LabelScheme, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Results:
    return Results(scheme, [], labels, probabilities, "f1")


def predicted(classes: int, images: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    logits = random.normal(0, 1, (images, classes))
    logits[np.arange(images), labels] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def write(folder: Path, explain: Explain | None, classes: int = 3, images: int = 60) -> str:
    labels, probabilities = predicted(classes, images)
    scheme = PETS if classes == 3 else LabelScheme("many", tuple(f"class {label}" for label in range(classes)))
    page = write_report(
        folder,
        title="exp",
        scheme=scheme,
        history=[],
        labels=labels,
        probabilities=probabilities,
        names=[f"{index}.jpg" for index in range(images)],
        pixels=lambda index: np.full((40, 30, 3), index % 256, np.uint8),
        settings={},
        explain=explain,
    )
    return page.read_text()


def test_the_examples_are_the_two_most_confident_right_predictions_of_each_class() -> None:
    labels, probabilities = predicted(3, 60)
    found = examples(results_of(PETS, labels, probabilities))
    assert len(found) == 6
    for label, pair in enumerate((found[:2], found[2:4], found[4:])):
        right = [index for index in range(60) if labels[index] == label == probabilities[index].argmax()]
        assert pair == sorted(right, key=lambda index: -probabilities[index].max())[:2]


def test_of_many_classes_those_with_the_most_images_have_examples() -> None:
    labels = np.concatenate((np.repeat(np.arange(30, 60), 5), np.arange(100)))
    probabilities = np.eye(100, dtype=np.float32)[labels]
    scheme = LabelScheme("many", tuple(f"class {label}" for label in range(100)))
    found = examples(results_of(scheme, labels, probabilities))
    assert len(found) == 2 * MOST_CLASSES
    assert set(labels[found]) == set(range(30, 50))


def test_a_class_without_a_right_prediction_has_no_example() -> None:
    labels = np.array((0, 1, 1, 2))
    found = examples(results_of(PETS, labels, np.eye(3, dtype=np.float32)[[0, 1, 0, 1]]))
    assert found == [0, 1]


def test_an_overlay_is_a_png_of_the_size_of_the_image_that_is_transparent_where_there_is_no_heat() -> None:
    heat = corner([0], np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, np.int64)).maps[0]
    data = overlay(heat, (30, 40))
    assert overlay(heat, (30, 40)) == data
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("PNG", (30, 40))
        opacity = np.asarray(image.convert("RGBA"))[..., 3]
    assert opacity[0, 0] == 0
    assert opacity[39, 29] > 150
    pixels = np.full((40, 30, 3), 90, np.uint8)
    blended = blend(pixels, heat)
    assert (blended[0, 0] == 90).all()
    assert np.abs(blended[39, 29].astype(int) - 90).max() > 50


@pytest.mark.parametrize(
    ("row", "column", "place"), [(0, 0, "top left"), (3, 2, "bottom right"), (1, 1, "centre"), (2, 0, "middle left")]
)
def test_the_place_of_most_heat_has_a_name(row: int, column: int, place: str) -> None:
    heat = np.zeros((4, 3), np.float32)
    heat[row, column] = 1
    assert place_of(heat) == place


def test_the_page_shows_the_heat_of_mistakes_and_examples(tmp_path: Path) -> None:
    text = write(tmp_path, corner)
    labels, probabilities = predicted(3, 60)
    mistakes = int((labels != probabilities.argmax(1)).sum())
    assert 0 < mistakes < 24
    assert text.count('alt="heat map: most heat at the bottom right" src="data:image/png') == mistakes + 6
    assert "layer blocks.2, of 4 x 3 positions" in " ".join(text.split())
    write(tmp_path / "again", corner)
    assert (tmp_path / "heat.png").read_bytes() == (tmp_path / "again/heat.png").read_bytes()


def test_a_network_without_heat_maps_has_its_reason_on_the_page(tmp_path: Path) -> None:
    text = write(tmp_path, none)
    assert "There are none: no layer has an output that is a grid." in text
    assert "heat map:" not in text
    assert not (tmp_path / "heat.png").exists()


def test_the_page_stays_readable_with_many_classes(tmp_path: Path) -> None:
    text = write(tmp_path, corner, classes=300, images=900)
    assert 24 <= text.count("heat map:") <= 24 + 2 * MOST_CLASSES
    assert "each of the 20 classes with the most images" in " ".join(text.split())


def test_a_report_without_a_network_says_nothing_of_heat(tmp_path: Path) -> None:
    assert "heat" not in write(tmp_path, None).partition("</style>")[2].lower()
