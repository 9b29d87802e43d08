"""precision_recall.py: the figure tells the classes apart."""

import numpy as np

from report.precision_recall import precision_recall
from report.several import _MOST_CURVES


def test_no_two_classes_have_the_same_line() -> None:
    flags = np.array([True, False, True])
    figure = precision_recall(
        {f"class {label}": flags for label in range(_MOST_CURVES)}, [np.array([0.9, 0.5, 0.1])] * _MOST_CURVES
    )
    lines = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(lines) == len(set(lines)) == _MOST_CURVES
