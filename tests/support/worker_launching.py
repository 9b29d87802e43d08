"""Launchers of small trainings, as processes of their own that have imported torch already."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from runtime.failure import guard
from support.preloaded import LIBRARIES
from support.processes import wait_until
from training import worker_processes
from training.hosts import read_hosts
from training.workers_main import launch

SCRIPT = Path(__file__).with_name("small_training.py")
ROOT = SCRIPT.parents[2]
PYTHONPATH = f"{ROOT / 'code'}:{ROOT / 'tests'}"
MOST_SECONDS = 60


class Launcher:
    """The launcher of one host."""

    def __init__(self, folder: Path, what: str, workers: int = 2, **environ: str) -> None:
        """Start it; `folder` gets what the workers write, the failure file, and the log of this host.

        The variable PATIENCE says how many seconds it waits for what does not come.
        """
        self.folder, self.output = folder, folder / f"output-{environ.get('SM_CURRENT_HOST', '')}"
        self.log = self.output / "log"
        self.output.mkdir(parents=True)
        environ = {"SM_OUTPUT_DIR": str(self.output), "PYTHONPATH": PYTHONPATH} | environ
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        self.process: BaseProcess = context.Process(target=run, args=(environ, self.log, folder, what, workers))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    @property
    def failure(self) -> str:
        """Return the text of the failure file, empty if there is none."""
        file = self.output / "failure"
        return file.read_text() if file.exists() else ""

    def workers(self) -> dict[int, int]:
        """Return the process ids of all workers that have made a step, by rank."""
        lines = [path.read_text().split() for path in self.folder.glob("[0-9]")]
        return {int(rank): int(pid) for rank, pid, _ in lines}

    def saved(self) -> set[int]:
        """Return the ranks of the workers that have saved."""
        return {int(path.name.removeprefix("saved-")) for path in self.folder.glob("saved-*")}

    def wait_for_steps(self, count: int = 2) -> None:
        """Wait until so many workers have made a step."""
        wait_until(lambda: len(self.workers()) == count or not self.process.is_alive(), MOST_SECONDS)

    def join(self) -> int:
        """Wait for the end; return the exit code."""
        self.process.join(MOST_SECONDS)
        assert self.process.exitcode is not None, self.log.read_text()
        return self.process.exitcode


@contextmanager
def launching(*launchers: Launcher) -> Iterator[None]:
    """Kill what is left of launchers after the block."""
    try:
        yield
    finally:
        for launcher in launchers:
            launcher.process.kill()
            launcher.process.join()


def run(environ: Mapping[str, str], log: Path, folder: Path, what: str, workers: int) -> None:
    """Be a launcher: the target of the process."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a terminal's; where tests run under nohup, it would stay ignored
    os.environ.update(environ)
    patience = float(environ.get("PATIENCE", 30))
    worker_processes.STOP_SECONDS = patience
    worker_processes.GRACE_SECONDS = min(patience, 10)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    command = [sys.executable, "-W", "error", str(SCRIPT), str(workers), str(folder), what]
    guard(lambda: sys.exit(launch(command, read_hosts(os.environ), workers, wait_seconds=patience)))
