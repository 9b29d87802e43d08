"""The end of a command: its message on stderr and in the failure file, and its exit code. No torch."""

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from runtime.errors import JobError, reason_of
from runtime.files import UnusableFile, replacing
from runtime.memory import explain_no_memory, is_out_of_memory
from runtime.streams import escape_unprintable, open_closed_streams, outlive_readers

FAILURE_BYTES = 1024  # SageMaker shows this much of the failure file as FailureReason


def run(command: Callable[[], Any], *, needs_reader: bool = False) -> NoReturn:
    """Run a command and end the process with exit code 0, or as `guard` does."""

    def command_and_flush() -> None:
        command()
        sys.stdout.flush()  # raises the error of a full disk behind stdout before the exit code is decided

    guard(command_and_flush, needs_reader=needs_reader)
    sys.exit(0)


def guard(command: Callable[[], Any], *, needs_reader: bool = False) -> None:
    """Run a command; if it fails, write the reason to stderr and the failure file, and exit with the error's code.

    This also reports errors after the command, such as those of importing torch. SIGTERM ends the process until the
    command handles it: the kernel delivers a signal to PID 1 only if there is a handler. A closed stdout or stderr is
    not an error, nor is one whose reader leaves; a command that `needs_reader` gets a BrokenPipeError for stdout.
    """
    open_closed_streams()
    escape_unprintable()
    outlive_readers(*(["stderr"] if needs_reader else ["stdout", "stderr"]))
    remove_old_failures()
    sys.excepthook = lambda kind, error, trace: report(error) and None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        command()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Write the reason of a failure to stderr and the failure file; returns the exit code.

    A JobError is one sentence; any other exception is a bug and keeps its traceback. Ctrl-C needs no reason.
    """
    kind, sentence, exit_code = describe(error)
    if isinstance(error, KeyboardInterrupt):
        return exit_code
    return fail_with_traceback(error) if is_bug(error) else fail(kind, sentence, exit_code)


def describe(error: BaseException) -> tuple[str, str, int]:
    """Return the kind of an error, a sentence about it without a traceback, and the exit code that it leads to."""
    match error:
        case KeyboardInterrupt():
            return "SystemExit", "", 128 + signal.SIGINT
        case SystemExit():
            return "SystemExit", "", int(error.code or 0)
        case JobError():
            return type(error).__name__, str(error), error.exit_code
        case OSError() if sentence := explain_os_error(error):
            return "OSError", sentence, 1
        case _ if is_out_of_memory(error):
            return "DeviceError", explain_no_memory(error), 1
        case _ if _is_gpu_failure(error):
            return "DeviceError", _explain_gpu_failure(error), 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, f"{error} ({Path(frame.filename).name}:{frame.lineno})", 1


def is_bug(error: BaseException) -> bool:
    """Return True if an error is neither one that users can correct nor one of the machine."""
    is_known = isinstance(error, JobError | KeyboardInterrupt | SystemExit)
    is_of_the_machine = isinstance(error, OSError) and explain_os_error(error) is not None
    return not (is_known or is_of_the_machine or is_out_of_memory(error) or _is_gpu_failure(error))


def fail(kind: str, sentence: str, exit_code: int) -> int:
    """Write an error to stderr and the failure file; returns the exit code."""
    write_failure(f"{kind}: {sentence}")
    _print_error(f"{kind}: {sentence}")
    return exit_code


def fail_with_traceback(error: BaseException) -> int:
    """Report a bug: its type and place, then the traceback; returns exit code 1."""
    kind, sentence, _ = describe(error)
    text = "".join(traceback.format_exception(error))
    write_failure(f"{kind}: {sentence}\n{text}")
    _print_error(text)
    return 1


def _print_error(text: str) -> None:
    """Print on stderr; ignore a full disk behind it, so that the failure file still gets the cause."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def write_failure(text: str) -> None:
    """Write SM_OUTPUT_DIR/failure (and SM_MESSAGE_FILE, which a processing job shows), at most 1,024 bytes.

    A file that exists is kept: the first error is the cause. Errors of writing are ignored.
    """
    whole = text.encode(errors="replace")[:FAILURE_BYTES].decode(errors="ignore").encode()
    for path in _failure_files():
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(whole)


def remove_old_failures() -> None:
    """Remove the failure file of an earlier run on this machine; in a worker, it may be that of another worker."""
    for path in [] if "RANK" in os.environ else _failure_files():
        with contextlib.suppress(OSError):
            path.unlink()


def _failure_files() -> list[Path]:
    """Return the files that SageMaker shows as the reason of a failure."""
    places = [Path(os.environ["SM_OUTPUT_DIR"]) / "failure"] if os.environ.get("SM_OUTPUT_DIR") else []
    return places + ([Path(os.environ["SM_MESSAGE_FILE"])] if os.environ.get("SM_MESSAGE_FILE") else [])


def write_message(text: str) -> None:
    """Write SM_MESSAGE_FILE, the message of a SageMaker processing job; does nothing without that variable."""
    if path := os.environ.get("SM_MESSAGE_FILE"):
        with replacing(Path(path)) as file:
            file.write(text.encode()[:FAILURE_BYTES].decode(errors="ignore"))


def explain_os_error(error: OSError) -> str | None:
    """Return one sentence for an error of the machine, such as a full disk or a read-only folder; None for others."""
    path = error.filename2 or error.filename  # of a rename the new name: the old one is often a temporary file
    where = f": {path}" if path else ""
    if isinstance(error, UnusableFile):
        return f"{error.strerror}{where}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"no space left on the disk, nothing was published; free some or give the job a larger volume{where}"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"not allowed to write or read there; check the mount and the user the job runs as{where}"
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return f"a file is in the place of a folder, or a folder in the place of a file; give another path{where}"
        case errno.ELOOP:
            return f"links lead in a circle; give another path{where}"
        case errno.EIO | errno.ESTALE | errno.ENOTCONN:
            reason = os.strerror(error.errno)
            return f"the disk or the network file system failed ({reason}); check it and start the command again{where}"
        case errno.EMFILE | errno.ENFILE:
            return f"too many open files; raise the limit (ulimit -n){where}"
        case errno.ENAMETOOLONG:
            return f"a name is longer than the file system allows; choose a shorter one{where}"
    return None


def _is_gpu_failure(error: BaseException) -> bool:
    return type(error).__name__ == "AcceleratorError"  # of torch, which may not be imported


def _explain_gpu_failure(error: BaseException) -> str:
    """Return one sentence for torch's AcceleratorError, which is any error of CUDA."""
    reason = reason_of(error, None)
    return (
        f"the GPU failed ({reason}); start the command again, which resumes if there is something to resume from, and "
        "if it fails again, use another GPU"
    )
