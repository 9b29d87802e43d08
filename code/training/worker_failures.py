"""Why a run of several workers failed: one sentence out of how all of them ended. No torch.

When one worker ends, the others lose their connection to it and end as well. The cause is, in this order:

1. the sentence of a worker about itself, the earliest first ("DataError: image ... cannot be used");
2. a worker that was killed;
3. a worker that ended with an exit code and no sentence.

A worker that only lost another one (WorkerLost, or an error of gloo, NCCL or the TCPStore) is never the cause, nor is
one that the launcher killed because it did not end.
"""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import WorkerLost

# What a worker says whose peer has ended, also if it was killed because it did not end itself; and what
# torch.distributed raises in it, if nobody translates it.
_LOST = re.compile(
    rf"\A{WorkerLost.__name__}:|gloo/transport|gloo::|ncclRemoteError|NCCL|\bDist(Network|Store|Backend)Error"
)


@dataclass(frozen=True)
class Ending:
    """How one worker ended: its exit code is that of subprocess, -9 if SIGKILL ended it."""

    name: str  # such as "worker 3 of algo-2"
    exit_code: int
    sentence: str = ""  # of its failure file
    time_ns: int = 0  # when that was written
    killed_by_us: bool = False

    @property
    def has_lost_another(self) -> bool:
        """Return whether it ended only because another worker had."""
        return self.exit_code == WorkerLost.exit_code or bool(_LOST.search(self.sentence))


@dataclass(frozen=True)
class Cause:
    """The cause of a failure: the text of the failure file, and the exit code."""

    text: str
    exit_code: int = 1
    is_printed: bool = False  # a worker has already written it to stderr


def read_ending(name: str, exit_code: int, folder: Path, *, killed_by_us: bool) -> Ending:
    """Return how a worker ended that had a folder of its own for its failure file."""
    try:
        file = folder / "failure"
        return Ending(name, exit_code, file.read_text(), file.stat().st_mtime_ns, killed_by_us)
    except OSError:
        return Ending(name, exit_code, killed_by_us=killed_by_us)


def find_cause(endings: Iterable[Ending]) -> Cause | None:
    """Return the cause of a failure, or None if every worker ended well, or because of another one, or was killed."""
    candidates = [ending for ending in endings if ending.exit_code and not ending.has_lost_another]
    spoken = [ending for ending in candidates if ending.sentence]
    if spoken:
        first = min(spoken, key=lambda ending: ending.time_ns)
        return Cause(first.sentence, first.exit_code if first.exit_code > 0 else 1, is_printed=True)
    silent = sorted((ending for ending in candidates if not ending.killed_by_us), key=lambda ending: ending.exit_code)
    return Cause(f"TrainingError: {_describe(silent[0])}") if silent else None


def first_lost(endings: Iterable[Ending]) -> str:
    """Return what the first worker says that has lost another one; empty if none says anything."""
    spoken = [ending for ending in endings if ending.has_lost_another and ending.sentence]
    return min(spoken, key=lambda ending: ending.time_ns).sentence if spoken else ""


def was_stopped(endings: Iterable[Ending]) -> bool:
    """Return whether SIGTERM ended workers that had nothing to save yet, and nothing else went wrong."""
    codes = {ending.exit_code for ending in endings if ending.exit_code and not ending.has_lost_another}
    return bool(codes) and codes <= {-signal.SIGTERM, 128 + signal.SIGTERM}


def _describe(ending: Ending) -> str:
    """Return a sentence about a worker that left none."""
    if ending.exit_code >= 0:
        return f"{ending.name} ended with exit code {ending.exit_code} and no message; see its log"
    name = _signal_name(-ending.exit_code)
    reason = "was killed"
    if name == "SIGKILL":
        return (
            f"{ending.name} {reason} (SIGKILL), which the kernel does when the memory of the host is used up; lower "
            "--store-memory, --threads or --nproc-per-node, or use a larger host; a restart resumes"
        )
    if name == "SIGBUS":
        return f"{ending.name} {reason} (SIGBUS), which happens when a disk or /dev/shm is full; a restart resumes"
    return f"{ending.name} {reason} ({name}); a restart resumes"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
