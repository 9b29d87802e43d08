"""A step of training never waits for the GPU: nothing is synchronised, copied from pageable memory or allocated."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from config import AUGMENTATIONS, CRITERIA, OPTIMIZERS
from gpu.black_images import black_faces
from gpu.standin.run import run_on_standin

Row = dict[str, Any]
TABLE: list[Row] = [
    dict(zip(("precision", "optimizer", "ema_decay", "augmentation"), values, strict=True))
    for values in itertools.product(("bf16", "fp16", "fp32"), ("SGD", "AdamW"), (0.0, 0.9), AUGMENTATIONS)
]
MIXING: list[Row] = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 0.5, "cutmix_shape": "strip"}]
TABLE += [
    *(
        {"criterion": name, **weights, **mixing}
        for name in CRITERIA
        for weights, mixing in zip(
            ({}, {"class_weights": "balanced"}, {"class_weights": "balanced"}) if name != "f1" else ({}, {}, {}),
            MIXING,
            strict=True,
        )
    ),
    *({"precision": "bf16", "optimizer": name} for name in OPTIMIZERS),
    *({"precision": precision, "clip_norm": 1.0, "parts": 2} for precision in ("bf16", "fp16")),
    {"head": "factored", "sampler": "balanced", "model": "BaseModel", "optimizer": "Adam", "precision": "fp16"},
]
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy")
COPIES = ("copy to device, pageable", "copy to host, pageable")
Steps = list[list[dict[str, int]]]  # of each row, the third step of two epochs


def label(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in row.items())


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Measure all rows in one process, which takes as long as it takes to import torch."""
    folder = tmp_path_factory.mktemp("waits")
    images = black_faces(folder / "train" / "images")
    script = Path(__file__).with_name("measure_steps.py")
    command: list[str | Path] = [sys.executable, "-W", "error", script, images, folder / "output", json.dumps(TABLE)]
    done = run_on_standin(command, {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found: Steps = json.loads(done.stdout.rpartition("\nSTEPS ")[2])
    return found


@pytest.mark.slow  # test_marked_gpu.py asks the same of three steps, in seconds
@pytest.mark.parametrize("index", range(len(TABLE)), ids=lambda index: label(TABLE[index]))
def test_a_step_does_not_wait(steps: Steps, index: int) -> None:
    for step in steps[index]:
        assert step["kernels"] > 20
        assert {name: step[name] for name in (*WAITS, *COPIES, "cudaMalloc") if name in step} == {}
        assert step.get("cudaEventSynchronize", 0) <= 2, "the loss and the logged values of the step before"
