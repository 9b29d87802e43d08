"""The worker processes of a host: started by torchrun's process layer, signalled, watched, and killed in the end.

Each worker is a session of its own, so a signal to the process group of the launcher does not reach it: the launcher
passes it on.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from training.lost_workers import start_time

GRACE_SECONDS = 10.0
STOP_SECONDS = 90.0  # from the first signal on; SageMaker kills the container 120 seconds after it

_POLL_SECONDS = 0.05
# torchrun's layer sets handlers of its own for the signals that this variable names, and it must name one.
_LAYER_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"


class StopSignals:
    """The signals that the launcher has received, which ask it to stop: how many, the last one, and when the first."""

    def __init__(self) -> None:
        """Listen from now on, instead of ending; a signal that is ignored (nohup) stays so."""
        self.count, self.number, self.since = 0, 0, 0.0
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
        self._numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        self.listen()

    def listen(self) -> None:
        for number in self._numbers:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.since = self.since or time.monotonic()
        self.count += 1
        self.number = number


class WorkerProcesses:
    """The workers of this host by their local rank."""

    def __init__(
        self, command: Sequence[str], environs: Mapping[int, Mapping[str, str]], folder: Path, stop: StopSignals
    ) -> None:
        """Start `command` for each of the environments; torchrun's layer gets a folder for its own files."""
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SubprocessContext, start_processes

        os.environ[_LAYER_SIGNALS] = "SIGQUIT"
        program, *words = command
        context = start_processes(
            "workers",
            program,
            args=dict.fromkeys(environs, tuple(words)),
            envs={local: dict(environ) for local, environ in environs.items()},
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        )
        assert isinstance(context, SubprocessContext)
        self._processes: dict[int, subprocess.Popen[bytes]] = {
            local: handler.proc for local, handler in context.subprocess_handlers.items()
        }
        self._stop = stop
        self.killed: set[int] = set()  # local ranks that did not end in time
        stop.listen()

    def wait(self, elsewhere: Callable[[], object]) -> dict[int, int]:
        """Wait until all have ended; return their exit codes, -9 for one that SIGKILL ended.

        Signals are passed on meanwhile. `elsewhere` is true once another host has failed.
        """
        passed_on, deadline = 0, float("inf")
        failed_at: float | None = None
        while running := {local: process for local, process in self._processes.items() if process.poll() is None}:
            if self._stop.count > passed_on:
                passed_on = self._stop.count
                deadline = min(deadline, self._stop.since + STOP_SECONDS)
                for process in running.values():
                    process.send_signal(signal.SIGTERM)
            if failed_at is None and (any(process.returncode for process in self._processes.values()) or elsewhere()):
                failed_at = time.monotonic()
                deadline = min(deadline, failed_at + GRACE_SECONDS)
            if time.monotonic() > deadline:
                # A process that has died already may keep its parent waiting, until its last thread is gone.
                self.killed |= {local for local, process in running.items() if start_time(process.pid)}
                for process in running.values():
                    _kill_session(process)
            time.sleep(_POLL_SECONDS)
        return {local: process.returncode for local, process in self._processes.items()}


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and the processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
