"""A process does not outlive the one that started it, even if that ended first."""

import os
import subprocess
import sys

import pytest

from runtime.parent import end_with_parent
from support.serving import ROOT

PROGRAM = f"import sys, {end_with_parent.__module__} as tie; tie.end_with_parent(int(sys.argv[1])); print('runs')"


@pytest.mark.parametrize(("has_ended", "exit_code", "printed"), [(False, 0, "runs\n"), (True, 1, "")])
def test_a_process_whose_parent_has_ended_ends_at_once(has_ended: bool, exit_code: int, printed: str) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT / "code")}
    parent = 1 << 30 if has_ended else os.getpid()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(parent)], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (exit_code, printed)
