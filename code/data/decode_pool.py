"""A pool of processes that decode images into shared memory, each image within limits that the kernel enforces.

    pool = DecodePool(paths, preparation, SharedPixels.in_memory((len(paths), 128, 96, 3)))
    pool.wait(np.array([3]))
    pool.pixels[3], pool.bad.get(3)

An image that exceeds the limits, or crashes its decoder, costs itself and a process, which is replaced. Processes use
all CPUs, which threads do not: half of the work around a decoder holds the interpreter lock. Unlike Python's own pools,
this one needs no /dev/shm and no folder that can be written, and the parent runs no thread and sends no message for an
image. A template (template_process.py, decode_template.py) forks workers (decode_worker.py), which take indices from
shared memory (decode_board.py) and write pixels there. No torch.
"""

import mmap
import os
import select
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

from data.decode_board import CURSOR, LIMIT, Board, DecodeLimits, PathTable, create_memory
from data.decode_progress import NOTICE_SECONDS, DecodeProgress, Indices
from data.digests import DigestArray
from data.images import Pixels, Preparation
from data.template_process import TemplateProcess, take_template
from runtime.errors import DecodingError, ImageError
from runtime.process import cpu_count

PREPARE = "data.images:prepare"
CHUNK = 8  # images that a process takes at a time, at most; it wakes the parent once for each chunk


@dataclass(frozen=True)
class SharedPixels:
    """An array (slots, height, width, 3) in memory that processes can share, and a descriptor of that memory."""

    array: Pixels
    descriptor: int

    @classmethod
    def in_memory(cls, shape: tuple[int, ...]) -> Self:
        """Create an array without a file; memory is taken as it is filled."""
        size = int(np.prod(shape, dtype=np.int64))
        descriptor = create_memory("pixels", size)
        return cls(np.frombuffer(mmap.mmap(descriptor, size), np.uint8).reshape(shape), descriptor)

    @classmethod
    def in_file(cls, file: IO[bytes], shape: tuple[int, ...]) -> Self:
        """Use an open file, whose disk space must be reserved; it may be closed afterwards."""
        return cls(np.memmap(file, np.uint8, "r+", shape=shape), os.dup(file.fileno()))


class DecodePool:
    """Processes that decode the images of `paths`: index i into slot i modulo the number of slots.

    With a slot for each image, all are decoded one after the other, and the processes end after the last one. With
    fewer, the slots are a ring, and `release` tells which images are not needed any more.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preparation: Preparation,
        target: SharedPixels,
        *,
        processes: int = 0,
        limits: DecodeLimits | None = None,
        left_out: Mapping[int, ImageError] | None = None,
        on_decoded: Callable[[Indices, DigestArray], None] | None = None,
        decoder: str = PREPARE,
    ) -> None:
        """Start to decode `paths`, at least one; with `processes` 0, with one process for each CPU.

        The pool closes the descriptor of `target`. Images in `left_out`, by index, are bad without being decoded.
        `on_decoded` gets the indices of images and the digests (images, 32) of their files, as `wait` learns of them.
        `decoder` is the `module:function` that is called instead of data.images.prepare, with the same arguments.
        Raises DecodingError if no process can be started.
        """
        self.paths, self.pixels, count = paths, target.array, len(paths)
        workers = min(processes or cpu_count(), count)
        board = create_memory("board", Board.size_bytes(count, workers))
        self._board = Board(board, count, workers)
        self._board.order[:] = np.arange(count)
        self._board.header[LIMIT] = min(count, len(self.pixels))
        self._board.mark_all_bad(left_out or {}, paths)
        self._progress = DecodeProgress(self._board, paths, on_decoded)
        self._failure: DecodingError | None = None
        # The first is held while a thread sleeps, the second while one uses the order.
        self._sleeping, self._ordering = threading.Lock(), threading.Lock()
        self._bell, self._gate = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        self._template = take_template()
        self._events = select.poll()
        self._events.register(self._bell, select.POLLIN)
        self._events.register(self._template.control, select.POLLIN)
        self._release = weakref.finalize(self, _close, self._template, (board, self._bell, self._gate))  # also at exit
        header = {
            "images": count,
            "workers": workers,
            "shape": self.pixels.shape,
            "preparation": preparation.to_dict(),
            "limits": asdict(limits or DecodeLimits()),
            "chunk": CHUNK,
            "decoder": decoder,
        }
        names = PathTable.create(paths)
        self._template.hand_over(header, [target.descriptor, board, names, self._bell, self._gate])
        os.close(target.descriptor)
        os.close(names)

    @property
    def bad(self) -> dict[int, ImageError]:
        """Return the images that cannot be used, by index, as `wait` found them so far; these images are black."""
        return self._progress.bad

    @property
    def complete(self) -> bool:
        """Return True if all images are decoded."""
        return self._progress.is_complete()

    @property
    def board(self) -> tuple[int, int]:
        """Return a descriptor of the board, and how many seats it has; for others who read it, while it is open."""
        return self._board.descriptor, len(self._board.seats)

    def prioritize(self, indices: Iterable[int]) -> None:
        """Decode the images at these indices next, in this order, and then the others; not for a ring.

        Each process first completes the few images that it has taken.
        """
        wanted = np.fromiter(indices, np.int64)
        _, first = np.unique(wanted, return_index=True)
        wanted = wanted[np.sort(first)]
        with self._ordering:
            if self.complete:
                return
            with self._board.locked():
                waiting = self._board.order[self._board.header[CURSOR] :]
                is_waiting = np.zeros(len(self.paths), bool)
                is_waiting[waiting] = True
                wanted = wanted[is_waiting[wanted]]
                is_waiting[wanted] = False
                waiting[:] = np.concatenate([wanted, waiting[is_waiting[waiting]]])

    def release(self, first: int) -> None:
        """Let the processes overwrite the slots of all images before index `first`, in a ring."""
        with self._ordering:
            if self.complete:
                return
            with self._board.locked():
                self._board.header[LIMIT] = min(len(self.paths), first + len(self.pixels))
                os.eventfd_write(self._gate, 1)

    def wait(self, indices: Indices | None = None, *, until: Callable[[], bool] | None = None) -> None:
        """Wait until the images at these indices, or all, are decoded, or until `until` returns True.

        `until` is called about every 50 ms. Several threads may wait. Raises DecodingError if the processes cannot
        decode any more.
        """
        while True:
            is_mine = self._sleeping.acquire(timeout=NOTICE_SECONDS)
            try:
                if self._progress.is_due(indices):
                    self._progress.notice()
                    if (until and until()) or self._progress.are_done(indices):
                        break
                if is_mine:
                    self._sleep()
            finally:
                if is_mine:
                    self._sleeping.release()
        if not self._progress.undecoded:
            self.close()

    def close(self) -> None:
        """End the processes, whether all images are decoded or not. What is decoded stays; nobody may wait any more."""
        with self._sleeping, self._ordering:
            self._release()

    def _sleep(self) -> None:
        """Sleep until the processes have something to say. All images they decoded before may be noticed already."""
        if self._failure:
            raise self._failure
        ready = [descriptor for descriptor, _ in self._events.poll(1000 * NOTICE_SECONDS)]
        if self._bell in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        if ready and ready != [self._bell]:  # the template has ended, or is about to
            reason = self._template.reason()
            self._progress.notice()
            if self._progress.undecoded:
                self._failure = DecodingError(reason)
                raise self._failure


def _close(template: TemplateProcess, descriptors: Iterable[int]) -> None:
    template.close()
    for descriptor in descriptors:
        os.close(descriptor)
