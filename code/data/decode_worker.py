"""A process of a pool that decodes images (decode_pool.py), one at a time. No torch.

A worker limits itself before each image, and has no handler for what happens when a limit is exceeded: so the kernel
ends it, even if C code never returns to Python. It ends with the template that forked it, whatever ends that.
"""

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Self

import numpy as np

from data.decode_board import (
    BAD,
    CPU_NANOSECONDS,
    CURSOR,
    DONE,
    IN_HAND,
    LAST,
    NEXT,
    NOTHING,
    READY,
    Board,
    DecodeLimits,
    PathTable,
)
from data.digests import content_digest
from data.images import Pixels, Preparation, read_file
from runtime.errors import ImageError

NO_MEMORY = 75  # exit code of a worker
_DESCRIPTORS = 5  # that the parent sends
_PR_SET_PDEATHSIG = 1


@dataclass
class Shared:
    """What the parent gives to the template, and the template to its workers."""

    board: Board
    paths: PathTable
    pixels: Pixels  # (slots, height, width, 3); image i lies in slot i modulo slots
    preparation: Preparation
    limits: DecodeLimits
    bell: int  # an eventfd that wakes the parent
    gate: int  # an eventfd that can be read while there are images to take
    chunk: int  # images taken at a time, at most
    decoder: Callable[[bytes, Preparation, str], Pixels]  # data.images.prepare

    @classmethod
    def receive(cls, control: socket.socket) -> Self:
        """Receive the message of the parent; raise ValueError if the parent has ended."""
        message, (pixels, board, paths, bell, gate), *_ = socket.recv_fds(control, 65536, _DESCRIPTORS)
        header = json.loads(message)
        shape, images = header["shape"], header["images"]
        module, _, function = header["decoder"].partition(":")
        return cls(
            Board(board, images, header["workers"]),
            PathTable(paths, images),
            np.frombuffer(mmap.mmap(pixels, int(np.prod(shape))), np.uint8).reshape(shape),
            Preparation.from_dict(header["preparation"]),
            DecodeLimits(**header["limits"]),
            bell,
            gate,
            header["chunk"],
            getattr(import_module(module), function),
        )

    def mark_bad(self, index: int, code: str, reason: str) -> None:
        """Report an image that cannot be used, at once; it becomes black."""
        self.pixels[index % len(self.pixels)] = 0
        self.board.write_reason(index, code, reason)
        self.board.states[index] = BAD
        os.eventfd_write(self.bell, 1)


class Worker:
    """One process, which decodes one image at a time."""

    def __init__(self, shared: Shared, seat: int) -> None:
        self.shared, self.seat, self.number = shared, shared.board.seats[seat], seat

    def run(self, template: int) -> NoReturn:
        """Decode until no image is left."""
        self._limit(template)
        shared, seat = self.shared, self.seat
        seat[READY] = 1
        while True:
            while (position := seat[NEXT]) < seat[LAST]:
                index = int(shared.board.order[position])
                if not shared.board.states[index]:  # the worker before may have been killed just after it
                    self._decode(index)
                seat[NEXT] = position + 1
            os.eventfd_write(shared.bell, 1)
            with shared.board.locked():
                found = shared.board.take(self.number, shared.chunk)
                if not found:
                    with suppress(BlockingIOError):
                        os.eventfd_read(shared.gate)
                    if shared.board.header[CURSOR] == len(shared.board.order):
                        os._exit(0)
            if not found:
                select.select([shared.gate], [], [])

    def _limit(self, template: int) -> None:
        """End with the template, be the first that is killed without memory, and limit the memory."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != template:  # it died before that
            os._exit(1)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = mapped + (self.shared.limits.memory_mb << 20)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _decode(self, index: int) -> None:
        shared, path, limits = self.shared, self.shared.paths[index], self.shared.limits
        self.seat[CPU_NANOSECONDS] = time.process_time_ns()
        self.seat[IN_HAND] = index
        try:
            data = read_file(path)
            shared.board.digests[index] = np.frombuffer(content_digest(data), np.uint8)
            signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
            signal.setitimer(signal.ITIMER_REAL, limits.seconds)
            try:
                shared.pixels[index % len(shared.pixels)] = shared.decoder(data, shared.preparation, str(path))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            shared.board.states[index] = DONE
        except ImageError as error:
            shared.mark_bad(index, error.code, str(error).removesuffix(f": {path}"))
        except MemoryError:
            os._exit(NO_MEMORY)  # libraries are not trusted after it, and there is no memory to say more
        self.seat[IN_HAND] = NOTHING
