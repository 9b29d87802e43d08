"""A training step of every network on a GPU: it launches the kernels that torch's strict mode would launch.

So the job needs no strict mode for the same bits in every run. Only the pooling of AlexNet and VGG has no kernel that
torch lists as deterministic: strict mode rejects it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu.standin.run import run_on_standin
from model import model_names

QUICK = ("TinyModel", "BaseModel", "resnet18", "alexnet", "vit_b_16", "swin_t")
REJECTED, POOLING = ("alexnet", "vgg"), "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation"
PER_PROCESS = 14
NAMES = [name for name in model_names() if name not in (*QUICK, "MyModel")]  # MyModel is a resnet
GROUPS = [NAMES[start : start + PER_PROCESS] for start in range(0, len(NAMES), PER_PROCESS)]


def measure(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    script = Path(__file__).with_name("measure_networks.py")
    command: list[str | Path] = [sys.executable, "-W", "error", script, *names]
    done = run_on_standin(command, {"OMP_NUM_THREADS": "1"}, timeout=600, memory_mb=60_000)  # taken, but never touched
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    lines = [line.removeprefix("NETWORK ") for line in done.stdout.splitlines() if line.startswith("NETWORK ")]
    return {found["name"]: found for found in map(json.loads, lines)}


@pytest.mark.parametrize(
    "names", [QUICK, *(pytest.param(tuple(names), marks=pytest.mark.slow) for names in GROUPS)], ids=lambda it: it[0]
)
def test_a_step_launches_the_kernels_of_strict_mode(names: tuple[str, ...]) -> None:
    found = measure(names)
    assert found.keys() == set(names)
    for name, measured in found.items():
        assert sum(measured["job"].values()) > 50, name
        if name.startswith(REJECTED):
            assert measured["error"].startswith(POOLING), name
        else:
            assert measured.get("strict") == measured["job"], (name, measured.get("error"))
