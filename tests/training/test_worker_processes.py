"""The worker processes of a host, here small scripts."""

import signal
import sys
from pathlib import Path

import pytest

from training import worker_processes
from training.worker_processes import StopSignals, WorkerProcesses

# The first fails. The second has died, but another of its threads has not: nobody can wait for it yet.
DYING = """
import ctypes, os, threading, time
if os.environ["LOCAL_RANK"] == "0":
    os._exit(7)
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
# The first fails. The second does not notice.
STUCK = """
import os, time
if os.environ["LOCAL_RANK"] == "0":
    os._exit(7)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "GRACE_SECONDS", 2.0)


@pytest.fixture
def stop() -> StopSignals:
    """Return signals that the tests do not send; listening leaves the handlers of this process as they are."""
    signals = StopSignals.__new__(StopSignals)
    signals.count, signals.number, signals.since, signals._numbers = 0, 0, 0.0, []
    return signals


@pytest.mark.parametrize(("script", "killed"), [(DYING, set()), (STUCK, {1})], ids=["dying", "stuck"])
def test_a_worker_that_has_died_already_was_not_killed_by_the_launcher(
    tmp_path: Path, stop: StopSignals, script: str, killed: set[int]
) -> None:
    environs = {local: {"LOCAL_RANK": str(local)} for local in (0, 1)}
    processes = WorkerProcesses([sys.executable, "-c", script], environs, tmp_path, stop)
    assert processes.wait(lambda: False) == {0: 7, 1: -signal.SIGKILL}
    assert processes.killed == killed
