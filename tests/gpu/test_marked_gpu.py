"""The tests marked gpu start, warn of nothing and leave nothing behind; what they compute is only checked on a GPU."""

import re
import sys
from pathlib import Path

import pytest

from gpu.standin.run import ROOT, run_on_standin

FILES = sorted((ROOT / "tests").rglob("test_*.py"))
MARKED = [path for path in FILES if "@pytest.mark.gpu" in path.read_text() and path != Path(__file__)]
PYTEST: list[str | Path] = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
WARNS = """
import torch
from contextlib import suppress
import pytest

@pytest.mark.gpu
def test_that_raises_a_warning():
    with suppress(UserWarning):
        torch.cuda.set_sync_debug_mode("error")

@pytest.mark.gpu
def test_after_it():
    assert torch.zeros(1, device="cuda").cpu().tolist() == [0]

@pytest.mark.gpu
def test_whose_value_is_wrong():
    assert torch.ones(1, device="cuda").cpu().tolist() == [1]

@pytest.mark.gpu
def test_of_a_device_that_is_not_there():
    torch.zeros(1, device="cuda:7")
"""


def test_all_of_them_run_without_an_error_or_a_warning() -> None:
    # Without pytest's own assert: it would print tensors of garbage, which takes as much memory as there is.
    command = [*PYTEST, "-v", "--assert=plain", "-m", "gpu", "-p", "gpu.standin.values_off", *MARKED]
    done = run_on_standin(command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall("a_step_does_not_wait_for_the_gpu.*PASSED", done.stdout)) == 3
    assert "skipped" not in done.stdout.splitlines()[-1]
    assert done.counters["kernels"] > 100


@pytest.mark.slow
def test_only_values_are_left_out_and_one_test_does_not_harm_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(WARNS)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    command = [*PYTEST, "-v", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-p", "gpu.standin.values_off"]
    done = run_on_standin([*command, tmp_path / "test_marked.py"])
    assert done.returncode == 1
    results = dict(re.findall(r"::(\w+) (\w+)", done.stdout))
    assert results == {
        "test_that_raises_a_warning": "PASSED",
        "test_after_it": "PASSED",
        "test_whose_value_is_wrong": "XFAIL",
        "test_of_a_device_that_is_not_there": "FAILED",
    }


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_no_marked_test_sets_the_sync_debug_mode_itself(path: Path) -> None:
    assert "set_sync_debug_mode" not in path.read_text(), "take the fixture waiting_is_an_error, which restores it"
