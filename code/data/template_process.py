"""The template of a pool of decoding processes (decode_template.py), as its parent sees it. No torch.

Starting a template takes 0.2 seconds, most of it in imports. A command that calls `start_early` before it imports torch
does not wait for that: the next pool takes the template that is ready.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.decode_board import GROUP_SIGNALS
from runtime.errors import DecodingError

SCRIPT = Path(__file__).with_name("decode_template.py")
FRESH_SECONDS = 50.0  # a template that gets no work ends by itself a little later
_CLOSE_SECONDS = 3.0  # for the template to end by itself; it does not wait for a worker that hangs in the kernel

_early: list["TemplateProcess"] = []


class TemplateProcess:
    """A process that forks workers as soon as it knows their work, and ends with its parent."""

    def __init__(self, script: Path) -> None:
        """Start the template; raise DecodingError if that is not possible."""
        self.script, self.started, self.parent = script, time.monotonic(), os.getpid()
        self.control, self.process = _start(script)
        self._release = weakref.finalize(self, _close, self.control, self.process)  # also at exit

    @property
    def pid(self) -> int:
        return self.process.pid

    def hand_over(self, header: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Tell the template what its workers do."""
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and `reason` says so
            socket.send_fds(self.control, [json.dumps(header).encode()], descriptors)

    def reason(self) -> str:
        """Return why the template has ended."""
        with suppress(OSError):
            if reason := self.control.recv(4096).decode():
                return reason
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoding processes ended ({how}); the machine may be out of memory"

    def close(self) -> None:
        """End the template and its workers."""
        self._release()


def start_early(script: Path = SCRIPT) -> None:
    """Start a template for the next pool; if that is not possible, the pool says so."""
    with suppress(DecodingError):
        _early.append(TemplateProcess(script))


def take_template(script: Path = SCRIPT) -> TemplateProcess:
    """Return a template that nobody has taken: the one that was started early, or else a new one."""
    while _early:
        template = _early.pop()
        is_own = template.parent == os.getpid()  # not that of a process which has forked this one
        if is_own and template.script == script and time.monotonic() < template.started + FRESH_SECONDS:
            return template
    return TemplateProcess(script)


def _start(script: Path) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)  # not below: those are closed or replaced
    # -P: without the folder of the script on the path, where modules have names such as `images`
    command = [sys.executable, "-P", str(script), str(descriptor), str(os.getpid())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # inherited, so there is no gap at the start
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if _is_open(2) else subprocess.DEVNULL,
            pass_fds=[descriptor],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its buffers count as memory of a decoder
        )
    except OSError as error:
        control.close()
        raise DecodingError(f"cannot start a decoding process ({error.strerror})") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(descriptor)
        theirs.close()
    return control, process


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _close(control: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    control.close()  # the template ends, and its workers with it
    try:
        process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:  # it is busy, or the machine is
        process.kill()
        process.wait()
