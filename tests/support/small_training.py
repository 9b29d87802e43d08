"""A training of several workers, as far as starting, stopping and failing is concerned.

    python small_training.py WORKERS FOLDER [WHAT]      WHAT happens to the last worker after its third step

It does without torch, which takes seconds to import: workers see each other by files in FOLDER and by process ids.
FOLDER/RANK is written after every step ("RANK PID STEP"), FOLDER/saved-RANK when the worker was stopped in order.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from runtime.errors import DataError, WorkerLost
from runtime.failure import guard
from support.processes import is_running
from training.workers_main import start_workers

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
MOST_SECONDS = 120.0


class Training:
    """The training as one worker sees it."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.is_last = self.rank == self.size - 1

    def run(self) -> None:
        if self.is_last and self.what == "fails before the first step":
            raise DataError("the image cannot be used: x.jpg")
        if self.what != "is not ready for a signal":
            signal.signal(signal.SIGTERM, self.handle)
        environ = {name: os.environ[name] for name in os.environ if name in VARIABLES or "SOCKET" in name}
        (self.folder / f"environ-{self.rank}").write_text(json.dumps(environ))
        deadline, step = time.monotonic() + MOST_SECONDS, 0
        while time.monotonic() < deadline:
            step += 1
            partial = self.folder / f".{self.rank}"
            partial.write_text(f"{self.rank} {os.getpid()} {step}")
            partial.rename(self.folder / str(self.rank))
            others = [path.read_text().split() for path in self.folder.glob("[0-9]")]
            if step == 3 and self.is_last:
                self.happen()
            if (self.folder / "stop").exists() and self.what != "does not stop":
                (self.folder / f"saved-{self.rank}").touch()
                return
            gone = [rank for rank, pid, _ in others if not is_running(int(pid))]
            if gone and not (self.folder / f"saved-{gone[0]}").exists() and self.what != "kills one that hangs":
                raise WorkerLost(f"worker {self.rank} has lost worker {gone[0]}")
            if self.what == "ends" and step > 3 and len(others) == self.size:
                (self.folder / "stop").touch()
            time.sleep(0.01)

    def handle(self, number: int, frame: object) -> None:
        """Ask all workers to stop."""
        (self.folder / "stop").touch()

    def happen(self) -> None:
        """Let happen what the command line says."""
        match self.what:
            case "is killed" | "kills one that hangs":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fails":
                raise DataError("the image cannot be used: x.jpg")
            case "fails without a message":
                os._exit(3)
            case "gets the signal alone":
                os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    workers, folder, what = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    guard(lambda: start_workers([sys.executable, *sys.orig_argv[1:]], workers, "cpu"))
    guard(Training(folder, what).run)
