"""Scores have one name in the code and keep theirs in logs, files and SageMaker's metrics."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import metrics
from labels import MASKED_FACES, LabelScheme

CLASSES = MASKED_FACES.num_classes
PLAIN = LabelScheme("pets", ("cat", "dog", "fish"))

Labels = NDArray[np.int64]


@pytest.mark.parametrize(
    ("score", "name"),
    [
        ("accuracy", "accuracy"),
        ("macro_f1", "f1"),
        ("mask_accuracy", "mask_accuracy"),
        ("mask_macro_f1", "mask_f1"),
        ("macro_f1_accuracy", "macro_f1_accuracy"),  # a task may have any name
    ],
)
def test_macro_f1_is_called_f1_in_logs_and_in_the_files_of_training(score: str, name: str) -> None:
    assert metrics.log_name(score) == name


VALUES = {
    metric.name: 2 + index if metric.format == "d" else 0.5 * index for index, metric in enumerate(metrics.METRICS)
}


def test_log_line_reads_like_the_readme() -> None:
    values = {"epoch": 3, "train_loss": 0.42134, "learning_rate": 1e-5, "images_per_second": 5120.26, "other": 0.5}
    expected = "epoch=3; train_loss=0.4213; learning_rate=1e-05; images_per_second=5120.3; other=0.5000;"
    assert metrics.log_line(values) == expected
    assert metrics.log_line({"unanswered": 2}) == "unanswered=2;"


@pytest.mark.parametrize("definition", metrics.metric_definitions(), ids=lambda definition: definition["Name"])
def test_each_regex_finds_its_own_value_and_no_other(definition: dict[str, str]) -> None:
    line = metrics.log_line(VALUES)
    name = definition["Name"].replace(":", "_")
    found = re.findall(definition["Regex"], line)
    assert [float(text) for text in found] == [VALUES[name]]
    without = metrics.log_line({key: value for key, value in VALUES.items() if key != name})
    assert re.search(definition["Regex"], without) is None


def test_a_regex_does_not_match_inside_a_longer_name() -> None:
    regexes = {definition["Name"]: definition["Regex"] for definition in metrics.metric_definitions()}
    assert re.search(regexes["val:f1"], "ema_val_f1=0.5; val_f1_best=0.6;") is None
    assert re.search(regexes["epoch"], "1/9 epoch=2;") is not None


@pytest.mark.parametrize("value", [1e-7, 3.2e8, 0.0, -0.5, 12345.678])
def test_every_finite_value_is_found(value: float) -> None:
    for metric in metrics.METRICS[1:]:
        match = re.search(metric.definition()["Regex"], metrics.log_line({metric.name: value}))
        assert match is not None
        assert float(match[1]) == float(format(value, metric.format))


def test_values_that_are_not_finite_are_no_data_points() -> None:
    regex = {definition["Name"]: definition["Regex"] for definition in metrics.metric_definitions()}["val:loss"]
    for value in (float("nan"), float("inf"), float("-inf")):
        assert re.search(regex, metrics.log_line({"val_loss": value})) is None


def test_metric_definitions_keep_the_limits_of_sagemaker() -> None:
    definitions = metrics.metric_definitions()
    assert len(definitions) <= 40
    assert len({definition["Name"] for definition in definitions}) == len(definitions)
    assert all(1 <= len(definition["Name"]) <= 255 for definition in definitions)
    assert all(1 <= len(definition["Regex"]) <= 500 for definition in definitions)


def test_every_score_of_validation_is_a_metric() -> None:
    names = {f"val_{metrics.log_name(name)}" for name in metrics.scores(np.eye(CLASSES, dtype=np.int64), MASKED_FACES)}
    assert names <= {metric.name for metric in metrics.METRICS}


def test_metrics_load_neither_torch_nor_scikit_learn() -> None:
    check = "import sys, metrics; sys.exit(bool({'torch', 'sklearn', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(metrics.__file__).parent).returncode == 0
