"""The figures of a run: curves, confusion matrix, reliability diagram, pictures with captions. No torch.

Every function returns a matplotlib Figure with its own Agg canvas; pyplot and its global state are never touched.
The colours are those of Okabe and Ito (2008), told apart with every common colour blindness; lines differ in dash, too.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from labels import LabelScheme

BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#767676"
ARROW = "\N{RIGHTWARDS ARROW}"

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#b0b0b0",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",  # the one that matplotlib ships
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called `$x$`
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
_DETAILED_CLASSES = 6  # up to here a cell has room for share and count
_NAMED_CLASSES = 40  # up to here every class has a tick and every cell its count
_LONGEST_NAME = 36


@rc_context(_STYLE)
def curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Loss, accuracy and macro F1, macro F1 per task, and learning rate by epoch; the best epoch is marked."""
    tasks = [key for key in history[0] if key.startswith("val_") and key.endswith("_f1")]
    figure = _figure(9.6, 6.2)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    _lines(panels[0], history, {"train_loss": "training", "val_loss": "validation"})
    panels[0].set_title("Loss")
    _lines(panels[1], history, {"train_accuracy": "training accuracy", "val_accuracy": "validation accuracy",
                                "val_f1": "validation macro F1"})
    panels[1].set_title("Accuracy and macro F1")
    names = {key: key.removeprefix("val_").removesuffix("_f1") for key in tasks} or {"val_f1": "all classes"}
    _lines(panels[2], history, names, styles=_TASK_STYLES)
    panels[2].set_title("Validation macro F1 per task" if tasks else "Validation macro F1")
    _lines(panels[3], history, {"learning_rate": "learning rate"}, styles=_TASK_STYLES)
    panels[3].set_title("Learning rate")
    for panel in panels:
        panel.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    return figure
