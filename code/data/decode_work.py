"""What the processes of a pool do, as their template sees it, and the limits that they set on themselves. No torch.

A worker limits itself before each image, and has no handler for what happens when a limit is exceeded: so the kernel
ends it, even if C code never returns to Python. It ends with the template that forked it, whatever ends that.
"""

import resource
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.decode_board import CPU_NANOSECONDS, IN_HAND, DecodeLimits
from runtime.parent import end_with_parent

NO_MEMORY = 75  # exit code of a worker


class Work(ABC):
    """The items that workers take, and what becomes of an item whose worker dies; one class for each kind of pool."""

    seats: NDArray[np.int64]  # (workers, fields), see decode_board.py
    limits: DecodeLimits  # the final ones
    names: Mapping[str, str]  # how users call the options `threads` and `memory`

    @classmethod
    @abstractmethod
    def receive(cls, header: Mapping[str, Any], descriptors: Sequence[int]) -> Self:
        """Return the work that the parent has handed over."""

    @abstractmethod
    def run(self, seat: int) -> None:
        """Do the work of a seat, in a process of its own, until no item is left."""

    @abstractmethod
    def is_waiting(self, item: int) -> bool:
        """Return True if an item has no result yet."""

    @abstractmethod
    def progress(self) -> int:
        """Return a number that changes when an item is done."""

    @abstractmethod
    def mark_bad(self, item: int, code: str, reason: str) -> None:
        """Report an item that cannot be used, and tell the parent."""

    def image(self, item: int) -> int:
        """Return a number of the image that an item is now; an item may become another image later."""
        return item

    def memory_mb(self, seat: int) -> int:
        """Return the memory in MiB that the worker in a seat may take."""
        return self.limits.memory_mb

    @abstractmethod
    def recover(self, seat: int) -> None:
        """Put the seat of a dead worker in order."""

    @abstractmethod
    def retry(self, seat: int, item: int) -> None:
        """Let an item be taken once more, if the successor in the seat does not continue with it."""

    def move_on(self, seat: int, item: int) -> bool:
        """Give an item to a worker with higher limits than those it exceeded; return False if there is none."""
        return False

    @abstractmethod
    def heal(self) -> None:
        """Find items that were lost; called about every half second."""


def limit_process(template: int, memory_mb: int) -> None:
    """End with the template, be the first that is killed without memory, and limit the memory, of this process."""
    end_with_parent(template)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = mapped + (memory_mb << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_time(cpu_seconds: float, seconds: float) -> None:
    """End this process when it has used so much CPU time or so much time from now on; 0 and 0 for no limit."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def take_in_hand(seat: NDArray[np.int64], item: int) -> None:
    """Note which item the worker in a seat has from now on, and its CPU time so far."""
    seat[CPU_NANOSECONDS] = time.process_time_ns()
    seat[IN_HAND] = item
