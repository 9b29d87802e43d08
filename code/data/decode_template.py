"""The template of the processes of a pool, which forks the workers that decode. No torch.

    python -P decode_template.py DESCRIPTOR PARENT    a socket to the parent, and the process id of the parent

The template imports the decoders, gets its work from the parent (decode_work.py), and forks. It has one thread and
never decodes, so forking is safe. Then it only waits: when a worker dies, it finds out why, marks the image that the
worker had in its hands as bad if that was the reason, and forks a successor. It ends with the parent.
"""

import gc
import io
import json
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

from data.decode_board import CPU_NANOSECONDS, GROUP_SIGNALS, IN_HAND, NOTHING, READY
from data.decode_work import NO_MEMORY, Work, limit_process
from data.images import FORMATS, Preparation, prepare

MOST_STARTS = 3  # workers in a row that die before they are ready, without being killed
MOST_KILLS = 100  # workers in a row that are killed before another image is decoded
COSTLY_NANOSECONDS = 100_000_000  # CPU time spent on an image, from which on it may be why its worker was killed
LOOK_SECONDS = 0.5  # between looks at the parent
IDLE_SECONDS = 60.0  # without work: longer than a template that was started early is used
_MESSAGE_BYTES, _DESCRIPTORS = 65536, 32  # of the parent, at most


class Template:
    """The process that forks workers and reports why they die."""

    def __init__(self, work: Work, control: socket.socket, parent: int, woken: socket.socket) -> None:
        """`control` is the socket to the parent; `woken` can be read when a worker has died."""
        self.work, self.control, self.parent, self.woken = work, control, parent, woken
        self.seats: dict[int, int] = {}  # by process id
        self.suspicions: dict[int, int] = {}  # by image: workers that it may have cost
        self.failed_starts = self.kills = 0  # in a row
        self.progress = 0

    def run(self) -> NoReturn:
        """Keep one worker in each seat until no image is left, or until the parent is gone."""
        for seat in range(len(self.work.seats)):
            self._fork(seat)
        looked = time.monotonic()
        while self.seats:
            ready, _, _ = select.select([self.control, self.woken], [], [], LOOK_SECONDS)
            if self.control in ready or os.getppid() != self.parent:  # a forked child of the parent has the socket, too
                self._end(0)
            if self.woken in ready:
                self.woken.recv(4096)
            self._reap()
            if time.monotonic() >= looked + LOOK_SECONDS:
                looked = time.monotonic()
                self.work.heal()
        os._exit(0)

    def _fork(self, seat: int) -> None:
        template = os.getpid()
        self.work.seats[seat, [IN_HAND, READY]] = NOTHING, 0
        try:
            if child := os.fork():
                self.seats[child] = seat
                return
        except OSError as error:
            self._fail(f"cannot start a decoding process ({error.strerror}); lower {self.work.names['threads']}")
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPROF, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            self.control.close()  # the parent waits for its end, which must come with the template
            self.woken.close()
            limit_process(template, self.work.memory_mb(seat))
            self.work.seats[seat, READY] = 1
            self.work.run(seat)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self.seats:
            child, status, usage = os.wait4(-1, os.WNOHANG)
            if not child:
                return
            number, code = self.seats.pop(child), os.waitstatus_to_exitcode(status)
            seat = self.work.seats[number]
            if code == 0 and seat[IN_HAND] == NOTHING and seat[READY]:
                continue  # no image is left
            self.work.recover(number)
            cpu = int((usage.ru_utime + usage.ru_stime) * 1e9) - int(seat[CPU_NANOSECONDS])
            item = int(seat[IN_HAND])
            if item != NOTHING or not seat[READY] or code != -signal.SIGKILL:  # else it was idle
                self._count(code, bool(seat[READY]))
            if item != NOTHING and self.work.is_waiting(item):  # it may have died just after it was done
                self._judge(number, item, code, cpu)
            self._fork(number)

    def _count(self, code: int, was_ready: bool) -> None:
        """Give up if workers die again and again without decoding anything."""
        progress = self.work.progress()
        killed = code == -signal.SIGKILL
        self.kills = killed * (self.kills + 1 if progress == self.progress else 1)
        self.failed_starts = 0 if was_ready else self.failed_starts + (not killed)
        self.progress = progress
        if self.failed_starts == MOST_STARTS:
            remedy = f"raise {self.work.names['memory']}"
            self._fail(f"decoding processes end before they start ({_explain(code)}); {remedy}")
        if self.kills == MOST_KILLS:
            self._fail("decoding processes are killed again and again; the machine may be out of memory")

    def _judge(self, seat: int, item: int, code: int, cpu_nanoseconds: int) -> None:
        """Mark the image that a dead worker had in its hands as bad, if that was the reason and its last chance."""
        if code in (-signal.SIGKILL, -signal.SIGALRM):
            # The image gets a second chance: the machine may have been paused, or short of memory because of another
            # process. And a worker that had hardly begun with it was not killed because of it.
            is_suspect = code == -signal.SIGALRM or cpu_nanoseconds > COSTLY_NANOSECONDS
            image = self.work.image(item)
            if is_suspect:
                self.suspicions[image] = self.suspicions.get(image, 0) + 1
            if self.suspicions.get(image, 0) < 2:
                self.work.retry(seat, item)
                return
        elif code in (-signal.SIGPROF, NO_MEMORY) and self.work.move_on(seat, item):
            return
        limits = self.work.limits
        known = {
            NO_MEMORY: f"needs more than the {limits.memory_mb} MiB of memory allowed to decode",
            -signal.SIGPROF: f"takes more than the {limits.cpu_seconds:g} s of CPU time allowed to decode",
            -signal.SIGALRM: f"takes more than the {limits.seconds:g} s allowed to decode",
            -signal.SIGKILL: "needs so much memory to decode that the system ends the process",
        }
        if code in known:
            self.work.mark_bad(item, "too_expensive", known[code])
        else:
            self.work.mark_bad(item, "undecodable_image", f"crashes its decoder ({_explain(code)})")

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
    """Prepare one small image of each format, so that workers import nothing.

    Not of AVIF: its encoder starts threads, and its decoder, which images.py has imported, imports nothing.
    """
    for kind in set(FORMATS) - {"AVIF"}:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, kind)
        prepare(buffer.getvalue(), Preparation((8, 8)))


def _receive(control: socket.socket, parent: int, kind: type[Work]) -> Work:
    """Wait for the work; end if the parent has ended, or hands none over."""
    idle_until = time.monotonic() + IDLE_SECONDS
    while not select.select([control], [], [], LOOK_SECONDS)[0]:
        if os.getppid() != parent or time.monotonic() > idle_until:
            os._exit(0)
    message, descriptors, *_ = socket.recv_fds(control, _MESSAGE_BYTES, _DESCRIPTORS)
    if not message:
        os._exit(0)
    return kind.receive(json.loads(message), descriptors)


def run_template(kind: type[Work]) -> NoReturn:
    """Run this process as the template of workers that do one kind of work."""
    descriptor, parent = map(int, sys.argv[1:])
    signal.pthread_sigmask(signal.SIG_SETMASK, GROUP_SIGNALS)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    warnings.simplefilter("ignore")  # a warning of a library is about one image, and says nothing that users can act on
    _warm_up()
    control = socket.socket(fileno=descriptor)
    work = _receive(control, parent, kind)
    gc.freeze()
    Template(work, control, parent, woken).run()


if __name__ == "__main__":
    from data.decode_worker import OrderedWork

    run_template(OrderedWork)
