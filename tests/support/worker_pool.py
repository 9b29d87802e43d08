"""Worker processes that run one training after the other, forked from one that has imported torch (preloaded.py).

    with WorkerPool(3) as pool:
        endings = pool.train(2, folder, data, "--epochs 2 --parts 4")

Each process is one worker of a run, started as training/workers_main.py does: with torchrun's variables, and a folder
for its failure file of its own. A fault is a function `name(rank)` in support/worker_faults.py, which breaks something
and returns a function that mends it.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self
from unittest import mock

from support.preloaded import LIBRARIES


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit code, and its failure file or an empty string."""

    code: int
    failure: str


class WorkerPool:
    """Processes that wait for trainings; a training of n workers uses the first n."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        environ = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        self._channels: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            self._channels.append(ours)
            self._processes.append(context.Process(target=serve, args=(theirs, environ)))
            self._processes[-1].start()
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for channel, process in zip(self._channels, self._processes, strict=True):
            channel.close()
            process.kill()
            process.join()
            process.close()

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
            self._channels[rank].send(job)
        return [channel.recv() for channel in self._channels[:size]]


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


def serve(channel: Connection, environ: Mapping[str, str]) -> None:
    """Run the trainings that come in, with warnings as errors; the target of the process."""
    os.environ.clear()
    os.environ.update(environ)
    sys.warnoptions[:] = ["error"]
    warnings.simplefilter("error")
    while True:
        try:
            job = channel.recv()
        except EOFError:
            return
        os.environ.update(job["environ"])
        code = run(job)
        failure = Path(os.environ["SM_OUTPUT_DIR"]) / "failure"
        text = failure.read_text() if failure.exists() else ""
        for name in job["environ"]:
            del os.environ[name]
        channel.send(Ending(code, text))


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
