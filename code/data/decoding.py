"""Threads that decode images into an array, in the order in which training needs them. No torch.

Pillow releases the interpreter lock while it decodes, so threads do: no worker processes and no /dev/shm are needed.
The pixels at an index depend on its file and the preparation only, not on the number of threads or on the order.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.digests import ImageDigests, content_digest
from data.images import Pixels, Preparation, prepare, read_file
from runtime.errors import ImageError
from runtime.process import cpu_count

Indices = NDArray[np.int64]

_CLOSE_SECONDS = 3.0  # at most, for threads to finish: longer than any image within the limits takes to decode


@dataclass(frozen=True)
class Outcome:
    """The result of decoding one file: the digest of its bytes, and why the image is black if it cannot be used."""

    digest: bytes  # no bytes if the file cannot be read
    error: ImageError | None = None


class Decoding:
    """Background threads that decode the images of `paths` into `pixels` (n, height, width, 3)."""

    def __init__(
        self, paths: Sequence[Path], preparation: Preparation, pixels: Pixels, indices: Iterable[int], threads: int = 0
    ) -> None:
        """Start to decode the images at `indices`; all others count as decoded. With `threads` 0, one per CPU."""
        self.paths, self.preparation, self.pixels = paths, preparation, pixels
        self.bad: dict[int, ImageError] = {}  # by index; these images are black
        self.digests = ImageDigests(paths)  # of the images decoded so far
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
        return self._are_done(None)

    def prioritize(self, indices: Iterable[int]) -> None:
        """Decode the images at these indices next, in this order, and then the others."""
        with self._changed:
            waiting = set(self._queue)
            self._queue = deque(dict.fromkeys([*(index for index in indices if index in waiting), *self._queue]))

    def wait(self, indices: Indices | None = None, *, until_bad: bool = False) -> None:
        """Wait until the images at these indices, or all, are decoded; with `until_bad`, at most until any is bad.

        Raises what stopped a thread, such as MemoryError, and CheckpointError as soon as an image anywhere in the data
        set is not as expected (`digests`).
        """
        with self._changed:
            while not (
                self._failure or self.digests.any_changed or (until_bad and self.bad) or self._are_done(indices)
            ):
                self._changed.wait()
        if self._failure:
            raise self._failure
        self.digests.check()

    def close(self) -> None:
        """Drop the queue and wait for the threads, but not for ever: a network file system may hang."""
        with self._changed:
            self._queue.clear()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _are_done(self, indices: Indices | None) -> bool:
        return bool((self._done if indices is None else self._done[indices]).all())

    def _work(self) -> None:
        while (index := self._take()) is not None:
            try:
                outcome = prepare_into(self.pixels[index], self.paths[index], self.preparation)
            except BaseException as failure:  # out of memory, or a bug: `wait` raises it in the caller's thread
                self._report(index, failure=failure)
                return
            self._report(index, outcome)

    def _take(self) -> int | None:
        with self._changed:
            return self._queue.popleft() if self._queue else None

    def _report(self, index: int, outcome: Outcome | None = None, failure: BaseException | None = None) -> None:
        with self._changed:
            if outcome:
                self.digests.record(index, outcome.digest)
            if outcome and outcome.error:
                self.bad[index] = outcome.error
            self._done[index] = failure is None
            self._failure = self._failure or failure
            self._changed.notify_all()


def prepare_into(target: Pixels, path: Path, preparation: Preparation) -> Outcome:
    """Read a file once and write the prepared image into `target` (height, width, 3), or black if it cannot be used."""
    digest = b""
    try:
        data = read_file(path)
        digest = content_digest(data)
        target[:] = prepare(data, preparation, str(path))
    except ImageError as error:
        target[:] = 0
        return Outcome(digest, error)
    return Outcome(digest)


def stream(
    paths: Sequence[Path], preparation: Preparation, *, batch_size: int, threads: int = 0
) -> Iterator[tuple[Pixels, list[Outcome]]]:
    """Prepare files in order, batch by batch and one batch ahead of the caller: for a single pass without a store.

    Yields pixels (batch, height, width, 3) and the outcome of each image.
    """
    pool = ThreadPoolExecutor(threads or cpu_count(), "decode")
    started: deque[tuple[Pixels, list[Future[Outcome]]]] = deque()
    try:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            pixels: Pixels = np.empty((len(batch), *preparation.size, 3), np.uint8)
            jobs = zip(pixels, batch, strict=True)
            started.append((pixels, [pool.submit(prepare_into, target, path, preparation) for target, path in jobs]))
            if len(started) > 1:
                yield _finished(*started.popleft())
        if started:
            yield _finished(*started.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(pixels: Pixels, outcomes: list[Future[Outcome]]) -> tuple[Pixels, list[Outcome]]:
    return pixels, [outcome.result() for outcome in outcomes]
