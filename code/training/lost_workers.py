"""How a worker learns why another one has ended, through the store of torch.distributed. The rules:

1. A worker that fails writes its error into the store before its connections close. The first one counts.
2. A worker whose connection fails reads that error and ends with it, so every host reports the same sentence.
3. If no worker has written one, a worker was killed. Workers of its host see that its process is gone; those of other
   hosts see that it does not answer the roll call.
4. Worker 0 keeps the store unless a launcher does, so it leaves last. If the store cannot be reached, it is gone.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from runtime.errors import JobError, WorkerLost
from runtime.failure import describe

ROLL_CALL_SECONDS = 5.0  # for the answers of all workers, which notice a lost connection at once
LEAVE_SECONDS = 10.0  # that worker 0 waits for the others to leave, at most
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Member:
    """A worker as the others know it."""

    name: str  # such as "worker 3 of algo-2"
    host: int
    pid: int
    started: str  # when the process started, in ticks: process ids are used again

    def is_running(self) -> bool:
        """Return False if the process has ended; only a worker of the same host can tell."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> str:
    """Return when a process started, in ticks; an empty string if it has ended, also if nobody has waited for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class LostWorkers:
    """The store in which workers say why they end; every method may be called from any thread."""

    def __init__(self, store: Any, rank: int, members: Sequence[Member]) -> None:
        """`store` is a Store of torch.distributed that all workers share."""
        self.store, self.rank, self.members = store, rank, members
        self._next_check = 0.0

    def check(self) -> None:
        """Raise the error of a worker that has failed, or WorkerLost for one of this host that was killed.

        Call it as often as you like while waiting for what another worker does: it looks twice a second.
        """
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + 0.5
            if self._is_known() or self._gone_here():
                self.explain()

    def publish(self, error: BaseException) -> BaseException:
        """Write the error that ends this worker; return the one that counts, which may be that of another worker."""
        if isinstance(error, WorkerLost):
            return error
        try:
            first = json.loads(self.store.compare_set("error", "", _dump(self.rank, *describe(error))))
        except (RuntimeError, ValueError):  # the store is gone, so this worker has the only error that it knows
            return error
        return error if first["rank"] == self.rank else _as_error(first)

    def explain(self) -> NoReturn:
        """Raise the error because of which a connection to another worker has failed."""
        try:
            self.store.set(f"here/{self.rank}", "1")
            deadline = time.monotonic() + ROLL_CALL_SECONDS
            while not self._is_known() and not self._gone_here() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            gone = self._gone_here() or self._absent()
            if self._is_known():
                raise _as_error(json.loads(self.store.get("error")))
        except RuntimeError:
            gone = [0]
        names = " and ".join(self.members[rank].name for rank in gone) or "a worker"
        were = "were" if len(gone) > 1 else "was"
        error = WorkerLost(f"{names} {were} lost, so training cannot continue; its log says why, and a restart resumes")
        with contextlib.suppress(RuntimeError):
            self.store.compare_set("error", "", _dump(self.rank, type(error).__name__, str(error), error.exit_code))
        raise error

    def leave(self) -> None:
        """Tell the others that this worker needs the store no more; worker 0 waits for all."""
        with contextlib.suppress(RuntimeError):
            self.store.add("left", 1)
            deadline = time.monotonic() + LEAVE_SECONDS
            while self.rank == 0 and time.monotonic() < deadline and self.store.add("left", 0) < self._leaving():
                time.sleep(_POLL_SECONDS)

    def _leaving(self) -> int:
        return len(self.members) - len(self._gone_here())

    def _is_known(self) -> bool:
        return bool(self.store.check(["error"]))

    def _gone_here(self) -> list[int]:
        """Return the workers of this host whose processes have ended."""
        own = self.members[self.rank]
        return [rank for rank, member in enumerate(self.members) if member.host == own.host and not member.is_running()]

    def _absent(self) -> list[int]:
        """Return the workers that have not answered the roll call."""
        return [rank for rank in range(len(self.members)) if not self.store.check([f"here/{rank}"])]


def _dump(rank: int, kind: str, sentence: str, exit_code: int) -> str:
    return json.dumps({"rank": rank, "kind": kind, "sentence": sentence, "exit_code": exit_code})


def _as_error(found: dict[str, Any]) -> BaseException:
    """Return an error with the name, the sentence and the exit code of another worker's."""
    if found["kind"] == WorkerLost.__name__:
        return WorkerLost(found["sentence"])
    if found["kind"] == SystemExit.__name__:
        return SystemExit(found["exit_code"])
    same: type[JobError] = type(found["kind"], (JobError,), {"exit_code": found["exit_code"]})
    return same(found["sentence"])
