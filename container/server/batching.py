"""Concurrent requests are batched: one model call for many images.

Images are prepared in a few threads. As soon as the model is free, one thread takes all images that are ready, at most
`batch_size`, and calls it once. Nothing waits for more images to come: a single client has no delay, and batches grow
by themselves under load. The queue is bounded, and only one model call runs at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels

Probabilities = NDArray[np.float32]
Future = asyncio.Future[Probabilities]


class QueueFullError(Exception):
    """The queue already has `max_waiting` images."""


class Batcher:
    """Takes images one by one and predicts them in batches. Belongs to the event loop that created it."""

    def __init__(
        self, predict: Callable[[Pixels], Probabilities], *, batch_size: int, max_waiting: int, threads: int
    ) -> None:
        """`predict` maps pixels (batch, height, width, 3) to probabilities (batch, classes)."""
        self.predict = predict
        self.batch_size, self.max_waiting = batch_size, max_waiting
        self.waiting = 0  # images without a result yet
        self.images = self.batches = 0  # computed so far
        self._loop = asyncio.get_running_loop()
        self._ready: SimpleQueue[tuple[Pixels, Future] | None] = SimpleQueue()
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._model = Thread(target=self._run_model, name="model")
        self._model.start()

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.max_waiting

    async def submit(self, prepare: Callable[[], Pixels]) -> Probabilities:
        """Return the probabilities (classes,) of the image that `prepare` returns; its exceptions are raised here.

        Raises QueueFullError at once if too many images are waiting.
        """
        if self.is_full:
            raise QueueFullError
        future: Future = self._loop.create_future()
        self.waiting += 1
        try:
            self._decoders.submit(self._prepare, prepare, future)
            return await future
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """End the threads after everything that was submitted has its result."""
        self._decoders.shutdown()
        self._ready.put(None)
        self._model.join()

    def _prepare(self, prepare: Callable[[], Pixels], future: Future) -> None:
        try:
            self._ready.put((prepare(), future))
        except Exception as error:
            self._loop.call_soon_threadsafe(_deliver, [future], [error])

    def _run_model(self) -> None:
        """Call the model for one batch after the other, until the queue is closed."""
        while (first := self._ready.get()) is not None:
            batch = [first, *self._take(self.batch_size - 1)]
            results: Sequence[Probabilities | Exception]  # one for each image
            try:
                results = list(self.predict(np.stack([pixels for pixels, _ in batch])))
            except Exception as error:  # these requests fail, the server does not
                results = [error] * len(batch)
            self.images, self.batches = self.images + len(batch), self.batches + 1
            self._loop.call_soon_threadsafe(_deliver, [future for _, future in batch], results)

    def _take(self, most: int) -> list[tuple[Pixels, Future]]:
        """Return the images that are ready now, at most `most`."""
        taken: list[tuple[Pixels, Future]] = []
        try:
            while len(taken) < most and (item := self._ready.get_nowait()) is not None:
                taken.append(item)
            if len(taken) < most:
                self._ready.put(None)  # the mark of the end is for the next call of `get`
        except Empty:
            pass
        return taken


def _deliver(futures: Sequence[Future], results: Sequence[Probabilities | Exception]) -> None:
    """Set the results in the event loop; a request that was cancelled in the meantime gets none."""
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
