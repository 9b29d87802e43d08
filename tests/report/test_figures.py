"""figures.py: figures show the right values, for any number of classes with any names."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from labels import MASKED_FACES, LabelScheme
from metrics import calibration
from report.figures import ARROW, compare, confusion, curves, grid_image, image_grid, png, reliability

ANIMALS = LabelScheme("animals", ("cat", "dog"))
HOSTILE = ("$x$", "$\\frac{$", "a\nb\tc", "\uace0\uc591\uc774", "<b>&", "x" * 200)


def history(epochs: int, tasks: tuple[str, ...] = ("mask", "gender", "age")) -> list[dict[str, float]]:
    names = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_f1", "learning_rate"]
    names += [f"val_{task}_{score}" for task in tasks for score in ("accuracy", "f1")]
    return [{"epoch": epoch} | dict.fromkeys(names, epoch / (epoch + 1)) for epoch in range(1, epochs + 1)]


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 24, 3), np.uint8)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes]


def heights(axes: Axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]


def test_curves_show_loss_scores_tasks_and_learning_rate_of_every_epoch() -> None:
    figure = curves(history(5), selected_epoch=3)
    assert titles(figure) == ["Loss", "Accuracy and macro F1", "Validation macro F1 by task", "Learning rate"]
    drawn = {line.get_label(): line for line in figure.axes[1].get_lines()}
    expected = [row["val_f1"] for row in history(5)]
    np.testing.assert_allclose(np.asarray(drawn["validation F1"].get_ydata(), float), expected)
    assert [line.get_label() for line in figure.axes[2].get_lines()[1:]] == ["mask", "gender", "age"]
    assert all(axes.get_xlabel() == "epoch (of the model: 3)" for axes in figure.axes)


def test_curves_without_tasks_have_no_panel_of_tasks() -> None:
    assert titles(curves(history(5, tasks=()), selected_epoch=1)) == ["Loss", "Accuracy and macro F1", "Learning rate"]


def test_curves_of_a_single_epoch_are_visible_points_at_a_whole_number() -> None:
    figure = curves(history(1), selected_epoch=1)
    png(figure)
    for axes in figure.axes:
        assert all(line.get_marker() not in ("", "None") for line in axes.get_lines()[1:])
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_curves_of_many_epochs_are_plain_lines() -> None:
    assert {line.get_marker() for line in curves(history(60), 60).axes[0].get_lines()[1:]} == {""}


def test_confusion_shows_every_count_that_is_not_zero() -> None:
    matrix = np.zeros((18, 18), np.int64)
    matrix[2, 5], matrix[17, 17] = 1234, 7
    axes = confusion(matrix, MASKED_FACES.classes, "All", block=6).axes[0]
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((5, 2), "1,234"), ((17, 17), "7")}
    assert len(axes.get_lines()) == 4  # after every block of 6 classes, across and down
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(label) for label in range(18)]
    assert [text.get_text().split("   ")[0] for text in axes.get_yticklabels()] == list(MASKED_FACES.classes)


def test_confusion_colours_by_the_share_of_the_true_class() -> None:
    axes = confusion(np.array([[3, 1], [0, 0]]), ("cat", "dog"), "All").axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in axes.texts] == ["75%\n3", "25%\n1"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog"]


def test_confusion_of_ten_short_names_has_the_names_on_both_sides() -> None:
    names = [f"class {label}" for label in range(10)]
    axes = confusion(np.eye(10, dtype=np.int64), names, "All").axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    assert [text.get_text() for text in axes.get_yticklabels()] == names


def test_confusion_of_many_classes_has_no_numbers_and_few_ticks() -> None:
    figure = confusion(np.eye(120, dtype=np.int64), [f"breed {label}" for label in range(120)], "All")
    png(figure)
    axes = figure.axes[0]
    assert not axes.texts
    assert len(axes.get_xticks()) <= 20
    assert max(figure.get_size_inches()) < 12


def test_confusion_of_a_part_of_the_classes_has_shares_of_all_images_and_the_class_numbers() -> None:
    names = ("a class with a long name", "another with a long name")
    support, numbers = np.array([4, 10]), (17, 903)
    axes = confusion(np.array([[3, 1], [0, 5]]), names, "Two", support=support, numbers=numbers).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0.5]])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["17", "903"]


def test_reliability_shows_accuracy_and_number_of_images_of_every_bin() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 300)
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), 300)
    result = calibration(labels, probabilities)
    figure = reliability(result)
    upper, lower = figure.axes
    np.testing.assert_array_equal(heights(upper)[:15], result.accuracy)
    assert heights(lower) == list(result.samples)
    assert f"{result.expected_error:.3f}" in upper.get_title("left")
    before = calibration(labels, np.eye(4)[probabilities.argmax(1)])
    axes = reliability(result, before).axes
    shown = {axis.get_title("left"): heights(axis)[:15] for axis in axes if axis.get_title("left")}
    assert list(shown) == [
        f"Error before the temperature {before.expected_error:.3f}",
        f"Error after it {result.expected_error:.3f}",
    ]
    for heights_shown, expected in zip(shown.values(), (before, result), strict=True):
        np.testing.assert_array_equal(heights_shown, expected.accuracy)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 16, 20])
def test_grid_image_accepts_any_number_of_images(count: int) -> None:
    labels = np.arange(count) % 18
    figure = grid_image(noise(count), labels, labels, MASKED_FACES)
    assert len(figure.axes[0].images) == len(figure.axes[0].texts) == min(count, 16)
    figure.canvas.draw()


def test_grid_image_shows_at_most_n_images() -> None:
    assert len(grid_image(noise(9), [0] * 9, [1] * 9, MASKED_FACES, n=4).axes[0].images) == 4


def test_a_grid_of_tall_images_is_no_taller_than_one_of_three_squares_in_their_place() -> None:
    tall, squares = (
        image_grid([np.zeros(shape, np.uint8)] * 16, ["cat"] * 16, 4) for shape in ((2048, 8, 3), (8, 8, 3))
    )
    assert tall.get_figheight() < 3 * squares.get_figheight()
    left, right, bottom, top = tall.axes[0].images[0].get_extent()
    assert (bottom - top) / (right - left) == pytest.approx(2048 / 8)  # as they are, not distorted


def test_grid_image_shows_label_and_prediction_by_task_and_marks_mistakes() -> None:
    right, wrong = grid_image(noise(2), [0, 7], [0, 10], MASKED_FACES).axes[0].texts
    assert right.get_text() == "mask: worn\ngender: male\nage: under 30"
    assert wrong.get_text() == f"mask: incorrect\ngender: male {ARROW} female\nage: 30-59"
    assert right.get_color() != wrong.get_color()


def test_grid_image_without_tasks_shows_the_classes() -> None:
    right, wrong = grid_image(noise(2), [0, 1], [0, 0], ANIMALS).axes[0].texts
    assert (right.get_text(), wrong.get_text()) == ("cat", f"dog\n{ARROW} cat")


def test_grid_image_shows_the_pixels_upright_and_in_their_place() -> None:
    images = np.zeros((4, 32, 24, 3), np.uint8)
    images[2, :16] = (255, 0, 0)  # the upper half of the third image, which is below and left
    figure = grid_image(images, [0] * 4, [0] * 4, ANIMALS)
    figure.canvas.draw()
    assert isinstance(figure.canvas, FigureCanvasAgg)
    drawn = np.asarray(figure.canvas.renderer.buffer_rgba())[..., :3]
    rows, columns = np.nonzero((drawn == (255, 0, 0)).all(axis=2))
    height, width = drawn.shape[:2]
    assert height / 2 < rows.min() < rows.max() < height * 0.85
    assert columns.max() < width / 2


def test_compare_can_omit_correct_tasks() -> None:
    assert compare(MASKED_FACES, 0, 1, only_wrong=True) == [f"age: under 30 {ARROW} 30-59"]
    assert compare(MASKED_FACES, 0, 0, only_wrong=True) == []


@pytest.mark.parametrize("classes", [2, 6])
def test_any_class_name_can_be_drawn(classes: int) -> None:
    """Warnings are errors here, so broken formulas (`$\\frac{$`) and letters that the font lacks raise none."""
    names = (HOSTILE * 2)[-classes:]
    png(confusion(np.eye(classes, dtype=np.int64), names, "$x"))
    png(image_grid(list(noise(classes)), names, columns=2))


def test_png_gives_the_same_bytes_for_the_same_figure() -> None:
    first, second = (png(curves(history(3), 3)) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).format == "PNG"


def test_figures_need_neither_pyplot_nor_torch() -> None:
    script = (
        "import sys, numpy; from report import figures; "
        "figures.png(figures.confusion(numpy.eye(2, dtype=int), 'ab', 'All')); "
        "sys.exit(str({'matplotlib.pyplot', 'torch'} & set(sys.modules)) if "
        "{'matplotlib.pyplot', 'torch'} & set(sys.modules) else 0)"
    )
    code = Path(__file__).parents[2] / "code"
    done = subprocess.run([sys.executable, "-c", script], cwd=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
