"""The template of the processes of a pool (decode_pool.py), which forks the workers that decode. No torch.

    python -P decode_template.py DESCRIPTOR PARENT    a socket to the parent, and the process id of the parent

The template imports the decoders, maps the memory that is shared (decode_board.py), and forks. It has one thread and
never decodes, so forking is safe. Then it only waits: when a worker dies, it finds out why, marks the image that the
worker had in its hands as bad if that was the reason, and forks a successor. It ends with the parent.
"""

import gc
import io
import os
import select
import signal
import socket
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image

from data.decode_board import CPU_NANOSECONDS, CURSOR, GROUP_SIGNALS, IN_HAND, NEXT, NOTHING, READY
from data.decode_worker import NO_MEMORY, Shared, Worker
from data.images import FORMATS, Preparation, prepare

MOST_STARTS = 3  # workers in a row that die before they are ready, without being killed
MOST_KILLS = 100  # workers in a row that are killed before another image is decoded
COSTLY_NANOSECONDS = 100_000_000  # CPU time spent on an image, from which on it may be why its worker was killed


class Template:
    """The process that forks workers and reports why they die."""

    def __init__(self, shared: Shared, control: socket.socket, parent: int, woken: socket.socket) -> None:
        """`control` is the socket to the parent; `woken` can be read when a worker has died."""
        self.shared, self.control, self.parent, self.woken = shared, control, parent, woken
        self.seats: dict[int, int] = {}  # by process id
        self.suspicions: dict[int, int] = {}  # by index: workers that an image may have cost
        self.failed_starts = self.kills = 0  # in a row
        self.progress = 0

    def run(self) -> NoReturn:
        """Keep one worker in each seat until no image is left, or until the parent is gone."""
        for seat in range(len(self.shared.board.seats)):
            self._fork(seat)
        while self.seats:
            ready, _, _ = select.select([self.control, self.woken], [], [], 0.5)
            if self.control in ready or os.getppid() != self.parent:  # a forked child of the parent has the socket, too
                self._end(0)
            if self.woken in ready:
                self.woken.recv(4096)
            self._reap()
        os._exit(0)

    def _fork(self, seat: int) -> None:
        template = os.getpid()
        self.shared.board.seats[seat, [IN_HAND, READY]] = NOTHING, 0
        try:
            if child := os.fork():
                self.seats[child] = seat
                return
        except OSError as error:
            self._fail(f"cannot start a decoding process ({error.strerror}); lower --threads")
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPROF, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            self.control.close()  # the parent waits for its end, which must come with the template
            self.woken.close()
            Worker(self.shared, seat).run(template)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self.seats:
            child, status, usage = os.wait4(-1, os.WNOHANG)
            if not child:
                return
            seat, code = self.seats.pop(child), os.waitstatus_to_exitcode(status)
            board = self.shared.board
            if code == 0 and board.seats[seat, IN_HAND] == NOTHING and board.seats[seat, READY]:
                continue  # no image is left
            with board.locked():
                board.give_back(seat)
            cpu = int((usage.ru_utime + usage.ru_stime) * 1e9) - int(board.seats[seat, CPU_NANOSECONDS])
            self._count(code, bool(board.seats[seat, READY]))
            index = int(board.seats[seat, IN_HAND])
            if index != NOTHING and not board.states[index]:  # it may have died just after it was done
                self._blame(index, code, cpu)
            self._fork(seat)

    def _count(self, code: int, was_ready: bool) -> None:
        """Give up if workers die again and again without decoding anything."""
        board = self.shared.board
        progress = int(board.header[CURSOR] + board.seats[:, NEXT].sum())
        killed = code == -signal.SIGKILL
        self.kills = killed * (self.kills + 1 if progress == self.progress else 1)
        self.failed_starts = 0 if was_ready else self.failed_starts + (not killed)
        self.progress = progress
        if self.failed_starts == MOST_STARTS:
            self._fail(f"decoding processes end before they start ({_explain(code)}); raise --decode-memory-mb")
        if self.kills == MOST_KILLS:
            self._fail("decoding processes are killed again and again; the machine may be out of memory")

    def _blame(self, index: int, code: int, cpu_nanoseconds: int) -> None:
        """Mark the image that a dead worker had in its hands as bad, if that was the reason."""
        limits = self.shared.limits
        if code in (-signal.SIGKILL, -signal.SIGALRM):
            # The image gets a second chance: the machine may have been paused, or short of memory because of another
            # process. And a worker that had hardly begun with it was not killed because of it.
            is_suspect = code == -signal.SIGALRM or cpu_nanoseconds > COSTLY_NANOSECONDS
            self.suspicions[index] = self.suspicions.get(index, 0) + is_suspect
            if self.suspicions[index] < 2:
                return
        known = {
            NO_MEMORY: f"needs more than the {limits.memory_mb} MiB of memory allowed to decode",
            -signal.SIGPROF: f"takes more than the {limits.cpu_seconds:g} s of CPU time allowed to decode",
            -signal.SIGALRM: f"takes more than the {limits.seconds:g} s allowed to decode",
            -signal.SIGKILL: "needs so much memory to decode that the system ends the process",
        }
        if code in known:
            self.shared.mark_bad(index, "too_expensive", known[code])
        else:
            self.shared.mark_bad(index, "undecodable_image", f"crashes its decoder ({_explain(code)})")

    def _fail(self, reason: str) -> NoReturn:
        with suppress(OSError):
            self.control.send(reason.encode())
        self._end(1)

    def _end(self, code: int) -> NoReturn:
        """Kill the workers and end, without waiting long for one that hangs in the kernel."""
        for child in self.seats:
            os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 1
        with suppress(ChildProcessError):
            while time.monotonic() < deadline:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(0.001)
        os._exit(code)


def _explain(code: int) -> str:
    """Return how a process with this exit code ended."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _warm_up() -> None:
    """Prepare one small image of each format, so that workers import nothing."""
    for kind in FORMATS:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, kind)
        prepare(buffer.getvalue(), Preparation((8, 8)))


def main() -> None:
    """Run the template."""
    descriptor, parent = map(int, sys.argv[1:])
    signal.pthread_sigmask(signal.SIG_SETMASK, GROUP_SIGNALS)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    warnings.simplefilter("ignore")  # a warning of a library is about one image, and says nothing that users can act on
    _warm_up()
    control = socket.socket(fileno=descriptor)
    try:
        shared = Shared.receive(control)
    except ValueError:  # nothing was sent: the parent is gone
        os._exit(0)
    gc.freeze()
    Template(shared, control, parent, woken).run()


if __name__ == "__main__":
    main()
