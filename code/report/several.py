"""The report about a model that gives images several labels: like write.py's, with what such labels have instead.

Files in the report folder; the page holds copies of the images and needs none of the others:

    report.html    everything on one self-contained page
    metrics.json   the same numbers for scripts
    curves.png  precision_recall.png
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labelling.labelling import SeveralLabels
from labels import MULTI, LabelScheme, join_labels
from report import figures
from report.html import environment
from report.precision_recall import precision_recall
from report.results import RunResults, best_by, class_rows
from report.write import jpeg, small, write_files
from set_metrics import average_precision, count_labels

_MOST_SHOWN = 24  # images
_MOST_CURVES = 8  # classes with a curve of their own: the worst


@dataclass(frozen=True)
class SeveralResults(RunResults):
    """Predictions for labelled images: labels (n, classes) of 0 and 1, probabilities (n, classes), and their scores."""

    labelling: SeveralLabels
    history: Sequence[Mapping[str, float]]
    labels: NDArray[Any]
    probabilities: NDArray[np.float32]
    best_by: str

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        return self.labels.astype(np.bool_)

    @cached_property
    def decided(self) -> NDArray[np.bool_]:
        return self.labelling.decide(self.probabilities)

    @cached_property
    def wrong(self) -> int:
        """Return the number of images with a label that is wrong or missing."""
        return int((self.truth != self.decided).any(1).sum())

    @cached_property
    def scores(self) -> dict[str, float]:
        return self.labelling.scores(self.truth, self.probabilities)

    @cached_property
    def precisions(self) -> NDArray[np.float64]:
        """Return the average precision of every class, (classes,); NaN for one that no image has."""
        return average_precision(self.truth, self.probabilities)

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """Return name, threshold, precision, recall, f1, support and average precision of every class."""
        rows = class_rows(self.labelling.scheme.classes, count_labels(self.truth, self.decided))
        known = [None if value != value else value for value in self.precisions.tolist()]
        return [
            {"name": row["name"], "threshold": threshold, "average_precision": precision} | row
            for row, threshold, precision in zip(rows, self.labelling.limits().tolist(), known, strict=True)
        ]

    @cached_property
    def drawn(self) -> list[int]:
        """Return the classes whose curve is drawn: those with the lowest average precision."""
        known = np.flatnonzero(~np.isnan(self.precisions))
        drawn: list[int] = known[np.argsort(self.precisions[known], kind="stable")][:_MOST_CURVES].tolist()
        return drawn

    @cached_property
    def worst(self) -> list[int]:
        """Return the indices of images with wrong labels, by falling sum of how sure the model is of what is wrong."""
        missed = np.where(self.truth, 1 - self.probabilities, self.probabilities)
        badness = np.where(self.truth != self.decided, missed, 0).sum(1)
        order = np.argsort(-badness, kind="stable")[:_MOST_SHOWN]
        return [index for index in order.tolist() if badness[index] > 0]

    def describe(self, index: int) -> list[str]:
        """Return what is wrong about an image, a line for missing and a line for wrong labels."""
        names = np.array(self.labelling.scheme.classes, object)
        missing = names[self.truth[index] & ~self.decided[index]].tolist()
        wrong = names[~self.truth[index] & self.decided[index]].tolist()
        lines = (("missing", missing), ("wrong", wrong))
        return [f"{what}: {', '.join(found)}" for what, found in lines if found]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of metrics.json."""
        return {**self.overview(), "classes": self.classes}


def draw_grid(images: NDArray[np.uint8], truth: NDArray[Any], decided: NDArray[Any], scheme: LabelScheme) -> Figure:
    """Draw the original's grid of images (n, height, width, 3) with their labels, whatever the scheme's kind is."""
    if scheme.kind != MULTI:
        return figures.grid_image(images, truth, decided, scheme)
    captions, colors = [], []
    for its, found in zip(truth.astype(np.bool_), decided, strict=True):
        labels = [join_labels(scheme.classes[label] for label in np.flatnonzero(row)) for row in (its, found)]
        captions.append(labels[0] if labels[0] == labels[1] else f"{labels[0]}\n{figures.ARROW} {labels[1]}")
        colors.append(figures.INK if labels[0] == labels[1] else figures.RUST)
    return figures.image_grid(list(images), captions, max(1, math.ceil(math.sqrt(len(images)))), colors)


def write_several_report(
    folder: Path,
    *,
    title: str,
    labelling: SeveralLabels,
    history: Sequence[Mapping[str, float]],
    labels: NDArray[Any],
    probabilities: NDArray[np.float32],
    names: Sequence[str],
    pixels: Callable[[int], NDArray[np.uint8]],
    settings: Mapping[str, object],
) -> Path:
    """Write the report about the predictions for the validation images into `folder`; return the path of its page.

    As `write_report`, for labels (n, classes) of 0 and 1.
    """
    results = SeveralResults(labelling, history, labels, probabilities, best_by(settings))
    drawn = {"curves": figures.curves(history, results.best_epoch)} if history else {}
    truth = {labelling.scheme.classes[label]: results.truth[:, label] for label in results.drawn}
    found = [results.probabilities[:, label] for label in results.drawn]
    drawn["precision_recall"] = precision_recall(truth, found)
    charts = {name: figures.png(figure) for name, figure in drawn.items()}
    worst = [(jpeg(small(pixels(index))), results.describe(index), names[index]) for index in results.worst]
    page = _TEMPLATE.render(title=title, results=results, charts=charts, worst=worst, settings=settings)
    return write_files(folder, charts, results.to_dict(), page)


_TEMPLATE = environment().get_template("several.html")
