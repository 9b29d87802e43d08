"""The figures of a run: curves, confusion matrix, reliability diagram, captioned images. No torch.

Every function returns a matplotlib Figure with its own Agg canvas; pyplot and its global state are not used.
The colours are those of Okabe and Ito (2008), which people with a common colour blindness can tell apart; lines differ
in dash and marker, too.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.typing import RcKeyType
from numpy.typing import NDArray

from labels import LabelScheme
from metrics import Calibration
from report.names import FONT, LONG_NAME, shorten, shorten_to_width

ARROW = "\N{RIGHTWARDS ARROW}"
BLUE, VERMILION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
GREY, INK, RUST = "#767676", "#222222", "#a34100"

STYLE: dict[RcKeyType, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#b0b0b0",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": FONT,
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "text.parse_math": False,  # a class may have the name `$x$`
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
LINES = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (ORANGE, ":", "D"))

_MARKED_EPOCHS = 30  # at most, for a marker at each epoch
_DETAILED_CLASSES = 6  # at most, for a share and a count in each cell of the confusion matrix
_NAMED_CLASSES = 40  # at most, for the names of the classes and a count in each cell
_SHORT_NAME = 14  # characters that fit below a column
_CAPTION_POINTS = 7  # size of the letters above an image in a grid
_IMAGE_INCHES = 1.6  # width of an image in a grid
_TALLEST = 3.0  # height of an image in a grid by that width; a taller one is scaled down


@rc_context(STYLE)
def curves(history: Sequence[Mapping[str, float]], selected_epoch: int) -> Figure:
    """Draw loss, accuracy, macro F1 (also by task) and learning rate by epoch, a dotted line at that of the model."""
    tasks = [key for key in history[0] if re.fullmatch("val_(?!micro_).+_f1", key)]
    scores = {"val_accuracy": "validation accuracy", "train_accuracy": "training accuracy", "val_f1": "validation F1"}
    panels = [
        ("Loss", {"val_loss": "validation", "train_loss": "training"}),
        ("Accuracy and macro F1", scores),
        ("Learning rate", {"learning_rate": ""}),
    ]
    if tasks:
        names = {key: key.removeprefix("val_").removesuffix("_f1") for key in tasks}
        panels.insert(2, ("Validation macro F1 by task", names))
    rows, columns = (2, 2) if tasks else (1, 3)
    figure = new_figure(9.6, 3.1 * rows)
    for axes, (title, lines) in zip(figure.subplots(rows, columns).flat, panels, strict=True):
        axes.axvline(selected_epoch, color=GREY, linestyle=":", linewidth=1.2)
        _draw_lines(axes, history, lines)
        axes.set_title(title)
        axes.set_xlabel(f"epoch (of the model: {selected_epoch})")
        axes.set_ylim(0, 1 if "F1" in title else None)
        if len(lines) > 1:
            axes.legend(loc="best")
    return figure


def _draw_lines(axes: Axes, history: Sequence[Mapping[str, float]], lines: Mapping[str, str]) -> None:
    """Draw one line for each key of `lines`, labelled with its value."""
    epochs = [row["epoch"] for row in history]
    for (key, label), (color, dash, marker) in zip(lines.items(), cycle(LINES), strict=False):
        values = [row[key] for row in history]
        # A line needs two points, so few epochs are drawn as points, too.
        marker = marker if len(epochs) <= _MARKED_EPOCHS else ""
        axes.plot(epochs, values, dash, color=color, label=label, marker=marker, markersize=3.5, clip_on=False)
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))


@rc_context(STYLE | {"axes.grid": False, "axes.spines.right": True, "axes.spines.top": True})
def confusion(
    matrix: NDArray[np.int64],
    names: Sequence[str],
    title: str,
    block: int = 0,
    support: NDArray[np.int64] | None = None,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Draw a confusion matrix (classes, classes), rows the ground truth; colours are shares of the row.

    If the matrix is a part of a larger one, `support` (classes,) is the number of images and `numbers` the class number
    of each row; else they are the sum and the index of the row. A line separates every `block` classes, if it is not 0.
    Cells have counts up to 40 classes, and shares up to 6.
    """
    classes = len(matrix)
    support = matrix.sum(axis=1) if support is None else support
    shares = matrix / np.maximum(support[:, None], 1)
    cell = _cell_inches(classes)
    longest = min(LONG_NAME, max(map(len, names))) if classes <= _NAMED_CLASSES else 4
    figure = new_figure(classes * cell + 1.5 + 0.075 * longest, classes * cell + 1.0)
    axes = figure.subplots()
    # The square root keeps single mistakes visible among many classes.
    mesh = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1.0 if classes <= _NAMED_CLASSES else 0.5, 0, 1))
    axes.set_title(title)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, aspect=30, format=PercentFormatter(1), pad=0.02)
    bar.outline.set_visible(False)
    for edge in np.arange(block, classes, block) - 0.5 if block else ():
        axes.axhline(edge, color="#9a9a9a", linewidth=0.8)
        axes.axvline(edge, color="#9a9a9a", linewidth=0.8)
    if classes <= _NAMED_CLASSES:
        _name_classes(axes, names, range(classes) if numbers is None else numbers)
        _write_cells(axes, matrix, shares)
    return figure


def _cell_inches(classes: int) -> float:
    """Return the side of a cell of the confusion matrix."""
    if classes <= _DETAILED_CLASSES:
        return max(1.05, 3.2 / classes)
    return 0.36 if classes <= _NAMED_CLASSES else 7.5 / classes


def _name_classes(axes: Axes, names: Sequence[str], numbers: Sequence[int]) -> None:
    """Write short names at both sides; with long ones, names and numbers at the rows, numbers below the columns."""
    rows = columns = [shorten(name) for name in names]
    if max(map(len, rows)) > _SHORT_NAME:
        columns = [str(number) for number in numbers]
        rows = [f"{name}   {number}" for name, number in zip(rows, columns, strict=True)]
    elif len(names) > _DETAILED_CLASSES:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xticks(range(len(names)), columns)
    axes.set_yticks(range(len(names)), rows)


def _write_cells(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """Write the count, and the share if there is room, into every cell that is not 0."""
    detailed = len(matrix) <= _DETAILED_CLASSES
    for row, column in np.argwhere(matrix):
        count, share = f"{matrix[row, column]:,}", shares[row, column]
        text = f"{share:.0%}\n{count}" if detailed else count
        color = "white" if share > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=10 if detailed else 7.5)


@rc_context(STYLE)
def reliability(result: Calibration, before: Calibration | None = None) -> Figure:
    """Draw accuracy by confidence, with the ideal as diagonal, and the number of images by confidence.

    With `before`, draw it without the temperature, too, on the left.
    """
    drawn = (
        {"Error before the temperature": before, "Error after it": result}
        if before
        else {"Expected calibration error": result}
    )
    figure = new_figure(5.6 * len(drawn), 5.2)
    columns = figure.subplots(2, len(drawn), sharex=True, squeeze=False, height_ratios=(3, 1)).T
    for (upper, lower), (title, shown) in zip(columns, drawn.items(), strict=True):
        _draw_reliability(upper, lower, shown)
        upper.set_title(f"{title} {shown.expected_error:.3f}")
    return figure


def _draw_reliability(upper: Axes, lower: Axes, result: Calibration) -> None:
    """Draw accuracy by confidence into the upper axes, and the number of images into the lower ones."""
    width = 1 / len(result.samples)
    centers = (np.arange(len(result.samples)) + 0.5) * width
    upper.bar(centers, result.accuracy, width * 0.92, color=BLUE, label="accuracy")
    gap = result.confidence - result.accuracy
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": VERMILION, "hatch": "////"}
    upper.bar(centers, gap, width * 0.92, bottom=result.accuracy, label="gap to confidence", **style)
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, label="ideal")
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    upper.legend(loc="upper left")
    lower.bar(centers, result.samples, width * 0.92, color=GREY)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    lower.set_ylabel("images")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    lower.xaxis.set_major_formatter(PercentFormatter(1))
    upper.yaxis.set_major_formatter(PercentFormatter(1))


@rc_context(STYLE)
def image_grid(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int, colors: Sequence[str] | None = None
) -> Figure:
    """Draw images (height, width, 3) in rows of `columns`, each below its caption of one or more lines."""
    sides = [image.shape[:2] for image in images]
    scales = [_IMAGE_INCHES / max(width, height / _TALLEST) for height, width in sides]  # inches of a pixel
    tallest = max((height * scale for (height, _), scale in zip(sides, scales, strict=True)), default=_IMAGE_INCHES)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    tile_height = tallest + 0.13 * lines + 0.15
    width, height = columns * (_IMAGE_INCHES + 0.1), max(1, math.ceil(len(images) / columns)) * tile_height
    figure = new_figure(width, height, layout=None)
    # One canvas measured in inches: one Axes per image takes ten times as long.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    tiles = zip(images, captions, colors or [INK] * len(images), strict=True)
    for position, (image, caption, color) in enumerate(tiles):
        row, column = divmod(position, columns)
        left, bottom = column * (_IMAGE_INCHES + 0.1) + 0.05, (row + 1) * tile_height - 0.05
        tall, wide = (side * scales[position] for side in sides[position])
        top = bottom - tall
        axes.imshow(image, aspect="auto", interpolation="bilinear", extent=(left, left + wide, bottom, top))
        fitting = [shorten_to_width(line, _IMAGE_INCHES, _CAPTION_POINTS) for line in caption.splitlines()]
        style = {"fontsize": _CAPTION_POINTS, "color": color, "verticalalignment": "bottom"}
        axes.text(left, top - 0.05, "\n".join(fitting), style)
    axes.set(xlim=(0, width), ylim=(height, 0))  # imshow changes them
    return figure


def grid_image(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.int64],
    predictions: Sequence[int] | NDArray[np.int64],
    scheme: LabelScheme,
    *,
    n: int = 16,
) -> Figure:
    """Draw the original's grid: up to `n` images of (samples, height, width, 3) with label and prediction by task.

    Wrong predictions have another colour, and an arrow from the label to the prediction.
    """
    shown = min(n, len(images))
    pairs = [(int(label), int(prediction)) for label, prediction in zip(labels, predictions, strict=True)][:shown]
    captions = ["\n".join(compare(scheme, label, prediction)) for label, prediction in pairs]
    colors = [INK if label == prediction else RUST for label, prediction in pairs]
    return image_grid(list(images[:shown]), captions, max(1, math.ceil(math.sqrt(shown))), colors)


def compare(scheme: LabelScheme, label: int, prediction: int, only_wrong: bool = False) -> list[str]:
    """Return a line by task such as `age: 30-59 -> under 30`; for a scheme without tasks, the names of the classes."""
    if not scheme.tasks:
        names = scheme.classes[label], scheme.classes[prediction]
        return [names[0]] if label == prediction else [names[0], f"{ARROW} {names[1]}"]
    true, predicted = scheme.describe(label), scheme.describe(prediction)
    return [
        f"{task}: {true[task]}" + (f" {ARROW} {predicted[task]}" if predicted[task] != true[task] else "")
        for task in true
        if predicted[task] != true[task] or not only_wrong
    ]


def png(figure: Figure, dots_per_inch: int = 120) -> bytes:
    """Return a figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, dpi=dots_per_inch, facecolor="white", bbox_inches="tight", pad_inches=0.06, metadata={"Software": None}
    )
    return buffer.getvalue()


def new_figure(
    width_inches: float, height_inches: float, layout: Literal["compressed"] | None = "compressed"
) -> Figure:
    """Create a figure with a canvas of its own."""
    figure = Figure((width_inches, height_inches), layout=layout)
    FigureCanvasAgg(figure)
    return figure
