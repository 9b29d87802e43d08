"""Concurrent requests are batched: one model call for many images.

Images are prepared in a few threads. As soon as the model is free, one thread takes all images that are ready, at most
`batch_size`, and calls it once. Nothing waits for more images to come: a single client has no delay, and batches grow
by themselves under load. The queue is bounded, and only one model call runs at a time.

A result that is not wanted anymore is a cancelled future: its image is neither prepared nor computed.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels

Probabilities = NDArray[np.float32]
Future = asyncio.Future[Probabilities]


class QueueFullError(Exception):
    """The queue already has `max_waiting` images."""


class Job:
    """An image that waits to be prepared; what prepares it, and with it the body, is dropped with the future."""

    def __init__(self, prepare: Callable[[], Pixels], future: Future) -> None:
        self.prepare: Callable[[], Pixels] | None = prepare
        self.future = future
        future.add_done_callback(self._drop)

    def _drop(self, future: Future) -> None:
        self.prepare = None


class Batcher:
    """Takes images one by one and predicts them in batches. Belongs to the event loop that created it."""

    def __init__(
        self, predict: Callable[[Pixels], Probabilities], *, batch_size: int, max_waiting: int, threads: int
    ) -> None:
        """`predict` maps pixels (batch, height, width, 3) to probabilities (batch, classes)."""
        self.predict = predict
        self.batch_size, self.max_waiting = batch_size, max_waiting
        self.images = self.batches = 0  # computed so far
        self._loop = asyncio.get_running_loop()
        self._waiting: set[Future] = set()  # those without a result yet
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._ready: SimpleQueue[tuple[Pixels, Future] | None] = SimpleQueue()
        self._decoders = [Thread(target=self._prepare, name=f"decode{at}", daemon=True) for at in range(threads)]
        self._model = Thread(target=self._run_model, name="model", daemon=True)
        for thread in (*self._decoders, self._model):
            thread.start()

    @property
    def waiting(self) -> int:
        """Return how many images have no result yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.max_waiting

    def enqueue(self, prepare: Callable[[], Pixels]) -> Future:
        """Return a future of the probabilities (classes,) of the image that `prepare` returns, or of its exception.

        Cancel it, and the image is neither prepared nor computed. Raises QueueFullError if too many images are waiting.
        """
        if self.is_full:
            raise QueueFullError
        future: Future = self._loop.create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        self._jobs.put(Job(prepare, future))
        return future

    async def submit(self, prepare: Callable[[], Pixels]) -> Probabilities:
        """Return the probabilities (classes,) of an image as `enqueue` does."""
        return await self.enqueue(prepare)

    def give_up(self, error: Exception) -> None:
        """Let all images that have no result yet fail with an error."""
        _deliver([*self._waiting], [error] * len(self._waiting))

    def close(self, seconds: float = 60.0) -> bool:
        """End the threads after everything that was submitted has its result; return False if that takes longer."""
        ends = time.monotonic() + seconds
        for _ in self._decoders:
            self._jobs.put(None)
        for thread in self._decoders:
            thread.join(max(0.0, ends - time.monotonic()))
        self._ready.put(None)
        self._model.join(max(0.0, ends - time.monotonic()))
        return not any(thread.is_alive() for thread in (*self._decoders, self._model))

    def _prepare(self) -> None:
        """Prepare one image after the other, until the queue is closed."""
        while (job := self._jobs.get()) is not None:
            if (prepare := job.prepare) is None:
                continue
            try:
                self._ready.put((prepare(), job.future))
            except Exception as error:
                self._loop.call_soon_threadsafe(_deliver, [job.future], [error])
            del job, prepare  # and with them the body, before the wait for the next

    def _run_model(self) -> None:
        """Call the model for one batch after the other, until the queue is closed."""
        while (first := self._ready.get()) is not None:
            batch = self._take(first)
            if not batch:
                continue
            results: Sequence[Probabilities | Exception]  # one for each image
            try:
                results = list(self.predict(np.stack([pixels for pixels, _ in batch])))
            except Exception as error:  # these requests fail, the server does not
                results = [error] * len(batch)
            self.images, self.batches = self.images + len(batch), self.batches + 1
            self._loop.call_soon_threadsafe(_deliver, [future for _, future in batch], results)

    def _take(self, item: tuple[Pixels, Future] | None) -> list[tuple[Pixels, Future]]:
        """Return the images that are ready now and still wanted, `item` first, at most `batch_size`."""
        taken: list[tuple[Pixels, Future]] = []
        try:
            while item is not None:
                if not item[1].done():
                    taken.append(item)
                if len(taken) == self.batch_size:
                    return taken
                item = self._ready.get_nowait()
            self._ready.put(None)  # the mark of the end is for the next call of `get`
        except Empty:
            pass
        return taken


def _deliver(futures: Sequence[Future], results: Sequence[Probabilities | Exception]) -> None:
    """Set the results in the event loop; those that are done already keep theirs."""
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
