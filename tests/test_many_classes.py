"""Training does not grow with the square of the classes: a thousand of them cost seconds, with the report."""

import json
import os
import resource
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import numpy as np
import pytest

import train

IMAGES = 6000
TRAIN = Path(train.__file__)


def write_classes(folder: Path, classes: int) -> Path:
    """Write 6,000 images of 16 x 16 pixels, as many of each class."""
    random = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label:05}").mkdir(parents=True)
        for number in range(IMAGES // classes):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            (folder / f"class{label:05}" / f"{number}.ppm").write_bytes(b"P6 16 16 255\n" + pixels.tobytes())
    return folder


def cpu_seconds_of_training(data: Path, out: Path) -> float:
    """Train one epoch with the command, and return the CPU time that it takes."""
    environ = {
        **os.environ,
        **{"SM_CHANNEL_TRAIN": str(data), "SM_MODEL_DIR": str(out / "model"), "SM_OUTPUT_DATA_DIR": str(out)},
        "OMP_NUM_THREADS": "1",  # threads that wait for each other on a busy machine take CPU time, too
    }
    flags = ["--dataset", "ImageFolderDataset", "--model", "TinyModel", "--resize", "32", "32", "--epochs", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run([sys.executable, TRAIN, *flags], env=environ, stdout=PIPE, stderr=STDOUT, text=True, timeout=1200)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_a_thousand_classes_cost_at_most_5_seconds_more_than_ten(tmp_path: Path) -> None:
    seconds = {}
    for classes in (10, 1000, 3000):
        data = write_classes(tmp_path / f"data{classes}", classes)
        seconds[classes] = cpu_seconds_of_training(data, tmp_path / f"out{classes}")
        report = tmp_path / f"out{classes}" / "exp" / "report"
        assert len(json.loads((report / "metrics.json").read_text())["classes"]) == classes
        assert sum(path.stat().st_size for path in report.iterdir()) < 10_000_000
        print(f"classes={classes}; cpu_seconds={seconds[classes]:.1f};")
    assert seconds[1000] - seconds[10] <= 5
    assert seconds[3000] - seconds[10] <= 15
