"""The world around a verb: the failure file, the exit code, CPUs and memory that the container may use. No torch."""

import contextlib
import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, TypeVar

from errors import DataError, JobError

Item = TypeVar("Item")

FAILURE_BYTES = 1024  # SageMaker shows this much of the failure file as FailureReason


def run(verb: Callable[[], Any]) -> NoReturn:
    """Run a verb and leave the process with exit code 0, or as `guard` does."""

    def verb_and_flush() -> None:
        verb()
        sys.stdout.flush()  # a full disk behind stdout shows here, not after the exit code is settled

    guard(verb_and_flush)
    sys.exit(0)


def guard(verb: Callable[[], Any]) -> None:
    """Run `verb`; if it fails, say why on stderr and in the failure file, and leave with the error's exit code.

    The one place that catches. A JobError is one sentence; anything else is our bug and keeps its traceback. Until the
    verb listens itself, SIGTERM ends it: the kernel hands PID 1 no signal that it has not asked for.
    """
    forget_failures()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        verb()
    except JobError as error:
        sys.exit(fail(type(error).__name__, str(error), error.exit_code))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if (sentence := explain_os_error(error)) is None:
            sys.exit(fail_with_traceback(error))
        sys.exit(fail("OSError", sentence, 1))
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not loaded here
            sys.exit(fail("DeviceError", _explain_no_memory(error), 1))
        sys.exit(fail_with_traceback(error))


def fail(kind: str, sentence: str, exit_code: int) -> int:
    """Say what went wrong on stderr and in the failure file; returns the exit code."""
    write_failure(f"{kind}: {sentence}")
    _print_error(f"{kind}: {sentence}")
    return exit_code


def fail_with_traceback(error: BaseException) -> int:
    """Report a bug of ours: the kind and place first, then the traceback; returns exit code 1."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = "".join(traceback.format_exception(error))
    write_failure(f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})\n{text}")
    _print_error(text)
    return 1


def _print_error(text: str) -> None:
    """Print on stderr; a log on a full disk must not hide the cause."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def write_failure(text: str) -> None:
    """Write SM_OUTPUT_DIR/failure (and SM_MESSAGE_FILE, which a processing job shows), at most 1,024 bytes.

    The first writer wins, and nothing here may hide the cause.
    """
    whole = text.encode(errors="replace")[:FAILURE_BYTES].decode(errors="ignore").encode()
    for path in _failure_files():
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(whole)


def forget_failures() -> None:
    """Remove what a run before this one left, on this machine, in the place of the failure file."""
    for path in _failure_files():
        with contextlib.suppress(OSError):
            path.unlink()


def _failure_files() -> list[Path]:
    places = [Path(os.environ["SM_OUTPUT_DIR"]) / "failure"] if os.environ.get("SM_OUTPUT_DIR") else []
    return places + ([Path(os.environ["SM_MESSAGE_FILE"])] if os.environ.get("SM_MESSAGE_FILE") else [])


def write_message(text: str) -> None:
    """Write SM_MESSAGE_FILE, what a SageMaker processing job says when it is done; nothing without that variable."""
    if place := os.environ.get("SM_MESSAGE_FILE"):
        with replacing(Path(place)) as file:
            file.write(text.encode()[:FAILURE_BYTES].decode(errors="ignore"))


def explain_os_error(error: OSError) -> str | None:
    """One sentence for what the machine refuses: a full disk, a read-only folder; None for anything else."""
    where = f": {error.filename}" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"no space left on the disk, nothing was published; free some or give the job a larger volume{where}"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"not allowed to write or read there; check the mount and the user the job runs as{where}"
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return f"a file is where a folder is needed, or a folder where a file is; give another place{where}"
        case errno.EMFILE | errno.ENFILE:
            return f"too many open files; raise the limit (ulimit -n){where}"
        case errno.ENAMETOOLONG:
            return f"a name is longer than the file system allows; choose a shorter one{where}"
    return None


def _explain_no_memory(error: Exception) -> str:
    reason = str(error).partition("\n")[0]
    return f"the device has no memory left ({reason}); lower --batch-size or --resize, or use a larger device"


def existing_folder(path: Path, variable: str, expected: str) -> Path:
    """The folder itself; raises DataError where it is missing, is a file, or is empty."""
    if not path.exists():
        raise DataError(f"{variable} does not exist, expected {expected}: {path}")
    if not path.is_dir():
        raise DataError(f"{variable} is a file, expected a folder with {expected}: {path}")
    if not any(path.iterdir()):
        raise DataError(f"{variable} is empty, expected {expected}: {path}")
    return path


def check_writable(folder: Path) -> None:
    """Raise the OSError that writing into a folder would, which need not be there yet: hours before it is needed."""
    while not folder.exists():
        folder = folder.parent
    tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w", *, tidy: bool = True) -> Iterator[IO[Any]]:
    """Open a file that takes the place of `path` only when it is complete and on the disk; 0644, as SageMaker needs.

    Whatever goes wrong in between, `path` is what it was before. What a killed writer left of it is removed, for which
    the whole folder is looked through unless `tidy` is false.
    """
    make_folder(path.parent)
    if tidy:
        remove_strays(path.parent, {path.name})
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        fsync_folder(path.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say where; the user needs to know
        raise


def remove_strays(folder: Path, names: Collection[str]) -> None:
    """Remove what killed writers left of files of these names."""
    for stray in folder.glob(".*.*.tmp"):
        if stray.name[1:].rsplit(".", 2)[0] in names:
            stray.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that they survive a power cut too."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

    On CPUs that also decode pictures, that is half of the time.
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
