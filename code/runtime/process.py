"""The process: signals that ask it to stop, and the CPUs and memory that its container may use. No torch."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


class Stopped(Exception):
    """A stop was requested, and nothing is half-done."""


class StopRequest:
    """Whether SIGTERM (a stopped or reclaimed instance) or SIGINT (Ctrl-C) has come; a second one ends at once.

    The handlers only set a flag: the training loop finishes its step, saves, and leaves in order.
    """

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until a stop is requested: then Stopped is raised in the place of the next one."""
        for item in items:
            if self.requested:
                raise Stopped
            yield item

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = True


def cpu_count() -> int:
    """CPUs this process may use: its affinity, and the container's quota, rounded up."""
    cpus = len(os.sched_getaffinity(0))
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quota = _cgroup("cpu.max").split() or [_cgroup(f"cpu/{file}") for file in files]
    if all(part.isdigit() for part in quota):  # "max" and -1 mean no limit
        cpus = min(cpus, max(1, -(-int(quota[0]) // int(quota[1]))))
    return cpus


def spin_less() -> None:
    """Before torch is loaded: let its threads wait for each other by spinning for less than the usual millisecond.

    On CPUs that also decode images, that is half of the time.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def free_memory_bytes() -> int:
    """Memory this process may still take: what the machine has available, or less where the container is limited."""
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    free = int(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else 1 << 30
    limit = _cgroup("memory.max", "memory/memory.limit_in_bytes")
    used = _cgroup("memory.current", "memory/memory.usage_in_bytes")
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split() for line in _cgroup("memory.stat", "memory/memory.stat").splitlines())
        cached = int(stat.get("inactive_file", 0))  # files read once count as used, but the kernel drops them at need
        free = min(free, max(0, int(limit) - int(used) + cached))
    return free


def _cgroup(*names: str) -> str:
    """What the first of these files of the container's cgroup says (version 2, then version 1), or nothing."""
    return next((text for name in names if (text := _read(f"/sys/fs/cgroup/{name}").strip())), "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
