"""precision_recall.py: the figure tells the classes apart, and shows the average precision of each."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from report.precision_recall import precision_recall
from report.several import _MOST_CURVES


def test_no_two_classes_have_the_same_line() -> None:
    flags = np.array([True, False, True])
    figure = precision_recall(
        {f"class {label}": flags for label in range(_MOST_CURVES)}, [np.array([0.9, 0.5, 0.1])] * _MOST_CURVES
    )
    lines = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(lines) == len(set(lines)) == _MOST_CURVES


@pytest.mark.parametrize(
    ("flags", "probabilities"),
    [
        ([True, True, False], [0.9, 0.8, 0.1]),
        ([False, True, False], [0.9, 0.8, 0.1]),
        ([True, False, False, True], [0.5, 0.5, 0.5, 0.5]),
        ([False, True, True, False, True], [0.7, 0.7, 0.4, 0.4, 0.2]),
    ],
    ids=["perfect", "second", "all equal", "some equal"],
)
def test_the_area_below_a_curve_is_the_average_precision(flags: list[bool], probabilities: list[float]) -> None:
    truth, found = np.array(flags), np.array(probabilities)
    (line,) = precision_recall({"a class": truth}, [found]).axes[0].lines
    recall, precision = np.array(line.get_xdata()), np.array(line.get_ydata())
    assert (recall[0], recall[-1]) == (0, 1)
    area = (np.diff(recall) * precision[1:]).sum()  # each step has the precision at its end
    assert area == pytest.approx(average_precision_score(truth, found))
