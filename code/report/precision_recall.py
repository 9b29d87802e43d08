"""The figure of precision by recall, which the report about several labels has. No torch."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from report.figures import LINES, STYLE, new_figure
from report.names import shorten
from set_metrics import precision_by_recall

# Every dash comes with every colour, so that the curves of all classes differ.
_STYLES = [
    (color, LINES[(number + turn) % len(LINES)][1])
    for turn in range(len(LINES))
    for number, (color, _, _) in enumerate(LINES)
]


@rc_context(STYLE)
def precision_recall(
    truth: Mapping[str, NDArray[np.bool_]], probabilities: Sequence[NDArray[np.floating[Any]]]
) -> Figure:
    """Draw precision by recall: a step curve for each class, of its ground truth and its probabilities (images,).

    Each class has an image.
    """
    figure = new_figure(5.6, 4.4)
    axes = figure.subplots()
    for (name, flags), found, (color, dash) in zip(truth.items(), probabilities, cycle(_STYLES), strict=False):
        recall, precision = precision_by_recall(flags, found)
        # From recall 0 on, so that the area below the curve is the average precision.
        steps = np.append(0, recall), np.append(precision[0], precision)
        axes.step(*steps, dash, color=color, label=shorten(name), where="pre")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    if truth:
        axes.legend(loc="lower left")
    return figure
