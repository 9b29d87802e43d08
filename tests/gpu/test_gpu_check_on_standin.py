"""Every part of `make gpu-check` runs on the stand-in, in its smallest form; no number is judged there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_parts import plan
from gpu.standin.run import ROOT, run_on_standin

COMMAND = [sys.executable, str(ROOT / "tests/benchmarks/gpu_check.py"), "--form", "tiny", "--no-values"]
QUICK = ("optimizer", "speed")
OTHERS = [part.name for part in plan.PARTS if part.name not in ("environment", *QUICK)]


# These compare the bits of runs. Without kernels, bits are what the memory held before: zeros, if it is always new.
COMPARING = ("resume", "workers")
NEW_MEMORY = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def run_parts(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Run parts, which must pass as far as they can here; returns what each found."""
    environ = NEW_MEMORY if {*names} & {*COMPARING} else {}
    done = run_on_standin([*COMMAND, *names, "--output", str(folder)], environ)
    logs = "".join(path.read_text()[-3000:] for path in folder.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return {part["name"]: part for part in json.loads((folder / "result.json").read_text())["parts"]}


def test_the_environment_and_quick_parts_run(tmp_path: Path) -> None:
    found = run_parts(tmp_path, *QUICK)
    assert list(found) == ["environment", *QUICK]
    assert {part["result"] for part in found.values()} == {"numbers not judged"}
    values = {row["name"]: row["value"] for row in found["environment"]["rows"]}
    assert values["torch's name of the card"] == "stand-in, compute capability 90"
    assert values["cuInit"] == "cuInit returns 0"


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_part_runs(tmp_path: Path, name: str) -> None:
    rows = run_parts(tmp_path, name)[name]["rows"]
    results = [row["result"] for row in rows]
    assert "missed" not in results
    assert {"met", "not judged"} & {*results}


def test_a_driver_that_does_not_work_is_one_sentence_and_no_pass(tmp_path: Path) -> None:
    done = run_on_standin([*COMMAND, "right", "--output", str(tmp_path)], count_error=804)
    assert done.returncode == 2
    sentence = "there is no GPU that torch can use (cuInit returns 804), so nothing was checked"
    assert done.stderr == f"gpu-check: {sentence}\n"
