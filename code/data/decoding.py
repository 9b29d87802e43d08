"""Threads that decode images into the rows of an array, in the order in which training asks for them. No torch.

Pillow releases the interpreter while it decodes, so threads are enough: no worker processes, no /dev/shm. What a row
holds depends on its file and the preparation only, never on the number of threads or on the order.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels, Preparation, prepare
from runtime.errors import ImageError
from runtime.process import cpu_count

Indices = NDArray[np.int64]
Outcome = ImageError | None  # why a row is black instead of an image

_PATIENCE_SECONDS = 3.0  # no image that is let through takes as long


class Decoding:
    """The rows of `pixels` (n, height, width, 3) that are still to be filled, and the threads that fill them."""

    def __init__(
        self, paths: Sequence[Path], preparation: Preparation, pixels: Pixels, indices: Iterable[int], threads: int = 0
    ) -> None:
        """Start to decode `rows`; all others are taken to be filled. `threads` 0 is one for every CPU."""
        self.paths, self.preparation, self.pixels = paths, preparation, pixels
        self.bad: dict[int, ImageError] = {}  # by row; what stands there is black
        self._queue = deque(indices)
        self._done = np.ones(len(paths), bool)
        self._done[list(self._queue)] = False
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        count = min(threads or cpu_count(), len(self._queue))
        self._threads = [threading.Thread(target=self._work, name="decode", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def complete(self) -> bool:
        return self._filled(None)

    def prefer(self, indices: Iterable[int]) -> None:
        """Decode these rows next, in this order, then the others."""
        with self._changed:
            waiting = set(self._queue)
            self._queue = deque(dict.fromkeys([*(row for row in indices if row in waiting), *self._queue]))

    def wait(self, indices: Indices | None = None, *, until_bad: bool = False) -> None:
        """Wait until these rows, or all, are filled, or until a bad image was met anywhere, if `until_bad`."""
        with self._changed:
            while not (self._failure or (until_bad and self.bad) or self._filled(indices)):
                self._changed.wait()
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Give up what is not decoded yet and wait for the threads, but not for a file system that hangs."""
        with self._changed:
            self._queue.clear()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _filled(self, indices: Indices | None) -> bool:
        return bool((self._done if indices is None else self._done[indices]).all())

    def _work(self) -> None:
        while (row := self._take()) is not None:
            try:
                error = prepare_into(self.pixels[row], self.paths[row], self.preparation)
            except BaseException as failure:  # out of memory, or a bug: it belongs to whoever waits
                self._report(row, failure=failure)
                return
            self._report(row, error)

    def _take(self) -> int | None:
        with self._changed:
            return self._queue.popleft() if self._queue else None

    def _report(self, row: int, error: Outcome = None, failure: BaseException | None = None) -> None:
        with self._changed:
            if error:
                self.bad[row] = error
            self._done[row] = failure is None
            self._failure = self._failure or failure
            self._changed.notify_all()


def prepare_into(row: Pixels, path: Path, preparation: Preparation) -> Outcome:
    """Fill one row (height, width, 3) with an image; black, and why, if it cannot be used."""
    try:
        row[:] = prepare(path, preparation)
    except ImageError as error:
        row[:] = 0
        return error
    return None


def stream(
    paths: Sequence[Path], preparation: Preparation, *, batch_size: int, threads: int = 0
) -> Iterator[tuple[Pixels, list[Outcome]]]:
    """Prepare files batch by batch, in order, one batch ahead of the caller: for a single pass that keeps nothing.

    Yields pixels (batch, height, width, 3) and, for each, why it is black instead of an image, or None.
    """
    pool = ThreadPoolExecutor(threads or cpu_count(), "decode")
    started: deque[tuple[Pixels, list[Future[Outcome]]]] = deque()
    try:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            pixels: Pixels = np.empty((len(batch), *preparation.size, 3), np.uint8)
            jobs = zip(pixels, batch, strict=True)
            started.append((pixels, [pool.submit(prepare_into, row, path, preparation) for row, path in jobs]))
            if len(started) > 1:
                yield _finished(*started.popleft())
        if started:
            yield _finished(*started.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(pixels: Pixels, outcomes: list[Future[Outcome]]) -> tuple[Pixels, list[Outcome]]:
    return pixels, [outcome.result() for outcome in outcomes]
