"""Worker processes that run one training after the other: importing torch once for all of them saves minutes.

    with WorkerPool(3) as pool:
        endings = pool.train(2, folder, data, "--epochs 2 --parts 4")

Each process is one worker of a run, started as training/workers_main.py does: with torchrun's variables, and a folder
for its failure file of its own. A fault is a function `name(rank)` in support/worker_faults.py, which breaks something
and returns a function that mends it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from unittest import mock

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 300  # for trainings of seconds, on a machine with much other work


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit code, and its failure file or an empty string."""

    code: int
    failure: str


class WorkerPool:
    """Processes that wait for trainings; a training of n workers uses the first n."""

    def __init__(self, size: int) -> None:
        path = os.pathsep.join(str(ROOT / name) for name in ("code", "container", "tests"))
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        line = [sys.executable, "-W", "error", "-m", "support.worker_pool"]
        self.processes = [
            subprocess.Popen(line, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(size)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def train(self, size: int, folder: Path, data: Path, flags: str, *, fault: str = "") -> list[Ending]:
        """Train with `size` workers; results are in `folder`. A second call with the same folder resumes."""
        port = free_port()
        for rank in range(size):
            job = {
                "flags": flags.split(),
                "fault": fault,
                "log": str(folder / f"log-{rank}"),
                "environ": environ_of(folder, data, rank) | torchrun_variables(rank, size, port),
            }
            (folder / f"out-{rank}").mkdir(parents=True, exist_ok=True)
            stream = self.processes[rank].stdin
            assert stream is not None
            stream.write(json.dumps(job) + "\n")
            stream.flush()
        return [self._ending(rank) for rank in range(size)]

    def _ending(self, rank: int) -> Ending:
        stream = self.processes[rank].stdout
        assert stream is not None
        return Ending(**json.loads(stream.readline()))


def environ_of(folder: Path, data: Path, rank: int) -> dict[str, str]:
    """Return the variables with the folders of a run, of which the failure file is the worker's own."""
    return {
        "SM_CHANNEL_TRAIN": str(data),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output"),
        "SM_OUTPUT_DIR": str(folder / f"out-{rank}"),
    }


def torchrun_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the variables of a worker on one host; none if it is alone."""
    if size == 1:
        return {}
    return {
        **{"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Run the trainings that come in, one in a line."""
    for line in lines:
        job = json.loads(line)
        os.environ.update(job["environ"])
        code = run(job)
        failure = Path(os.environ["SM_OUTPUT_DIR"]) / "failure"
        text = failure.read_text() if failure.exists() else ""
        for name in job["environ"]:
            del os.environ[name]
        answers.write(json.dumps({"code": code, "failure": text}) + "\n")
        answers.flush()


def run(job: dict[str, object]) -> int:
    """Run `train.py`, whose report is not drawn, as that takes longer than to train; returns its exit code."""
    import train
    from runtime.failure import guard
    from support import worker_faults

    rank = int(os.environ.get("RANK", "0"))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    sys.argv = ["train.py", *map(str, job["flags"])]  # type: ignore[call-overload]
    with Path(str(job["log"])).open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        mend = getattr(worker_faults, str(job["fault"]))(rank) if job["fault"] else None
        try:
            with mock.patch("publication.write_report"), mock.patch("train.show_grid"):
                guard(train.main)
        except SystemExit as leaving:
            return int(leaving.code or 0)
        finally:
            if mend:
                mend()
            for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
                signal.signal(number, handler)
    return 0


if __name__ == "__main__":
    own_answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what C++ prints does not belong to the answers
    serve(sys.stdin, own_answers)
