"""How a command ends: the sentence on stderr and in the failure file, and the exit code. No torch."""

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

from runtime.errors import JobError
from runtime.files import replacing

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
