"""The process: signals that stop it, and the CPUs and memory that its container may use. No torch."""

import os
import pwd
import signal
import tempfile
from pathlib import Path
from types import FrameType


class Stopped(Exception):
    """A stop was requested, and the step before it is complete."""


class StopRequest:
    """A request to stop, by SIGTERM (a stopped or reclaimed instance) or SIGINT (Ctrl-C).

    The first signal only sets `requested`: the training loop finishes its step, saves, and ends in order. A second
    signal ends the process at once.
    """

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Handle SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = True


def cpu_count() -> int:
    """Return how many CPUs this process may use: its affinity, limited by the container's quota, rounded up."""
    cpus = len(os.sched_getaffinity(0))
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quota = _cgroup("cpu.max").split() or [_cgroup(f"cpu/{file}") for file in files]
    if all(part.isdigit() for part in quota):  # "max" and -1 mean no limit
        cpus = min(cpus, max(1, -(-int(quota[0]) // int(quota[1]))))
    return cpus


def limit_openmp_spinning() -> None:
    """Shorten how long OpenMP threads spin while they wait for each other; call this before torch is imported.

    By default each spins for about a millisecond, which takes half of the CPU time from those that decode images.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def name_unknown_user() -> None:
    """Set HOME and USER for a user who is not in /etc/passwd, as with `docker run --user`; call before importing torch.

    torch asks for the name of the user, and other libraries for the home folder, to find their caches.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["HOME"] = os.environ.get("HOME") or tempfile.gettempdir()
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):  # as getpass.getuser
            os.environ["USER"] = f"uid{os.getuid()}"


def free_memory_bytes() -> int:
    """Return how many bytes of memory this process may still take, on the machine and within the container's limit."""
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    free = int(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else 1 << 30
    limit = _cgroup("memory.max", "memory/memory.limit_in_bytes")
    used = _cgroup("memory.current", "memory/memory.usage_in_bytes")
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split() for line in _cgroup("memory.stat", "memory/memory.stat").splitlines())
        cached = int(stat.get("inactive_file", 0))  # cached files count as used, but the kernel frees them on demand
        free = min(free, max(0, int(limit) - int(used) + cached))
    return free


def _cgroup(*names: str) -> str:
    """Return the text of the first of these cgroup files that exists (version 2 before version 1), else ""."""
    return next((text for name in names if (text := _read(f"/sys/fs/cgroup/{name}").strip())), "")


def _read(path: str) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
