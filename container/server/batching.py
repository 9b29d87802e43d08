"""Concurrent requests join into one model call.

Images are prepared in a few threads; the moment the model is free, one thread takes all that is ready, at most
`batch_size`, and calls it once. Nobody ever sleeps for more to come: a client alone waits for nothing, and batches grow
by themselves under load. The queue is bounded, a device has one model call at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels

Probabilities = NDArray[np.float32]
Future = asyncio.Future[Probabilities]


class QueueFullError(Exception):
    """As many images are waiting as may wait."""


class Batcher:
    """Answers images one by one, computes them batch by batch. Belongs to the event loop that made it."""

    def __init__(
        self, predict: Callable[[Pixels], Probabilities], *, batch_size: int, max_waiting: int, threads: int
    ) -> None:
        """`predict` maps pixels (batch, height, width, 3) to probabilities (batch, classes)."""
        self.predict = predict
        self.batch_size, self.max_waiting = batch_size, max_waiting
        self.waiting = 0  # images that have no answer yet
        self.images = self.batches = 0  # computed so far
        self._loop = asyncio.get_running_loop()
        self._ready: SimpleQueue[tuple[Pixels, Future] | None] = SimpleQueue()
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._model = Thread(target=self._work, name="model")
        self._model.start()

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.max_waiting

    async def submit(self, prepare: Callable[[], Pixels]) -> Probabilities:
        """The probabilities (classes,) of the image that `prepare` returns; what it raises is raised here.

        Raises QueueFullError at once if too many wait.
        """
        if self.is_full:
            raise QueueFullError
        answer: Future = self._loop.create_future()
        self.waiting += 1
        try:
            self._decoders.submit(self._prepare, prepare, answer)
            return await answer
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """End the threads once all that was submitted is answered."""
        self._decoders.shutdown()
        self._ready.put(None)
        self._model.join()

    def _prepare(self, prepare: Callable[[], Pixels], answer: Future) -> None:
        try:
            self._ready.put((prepare(), answer))
        except Exception as error:
            self._loop.call_soon_threadsafe(_deliver, [answer], [error])

    def _work(self) -> None:
        """The model's thread: one call after the other until there is nothing more to come."""
        while (first := self._ready.get()) is not None:
            batch = [first, *self._take(self.batch_size - 1)]
            answers = [answer for _, answer in batch]
            results: Any  # one for each: probabilities, or why there are none
            try:
                results = self.predict(np.stack([pixels for pixels, _ in batch]))
            except Exception as error:  # the server outlives it, and each of these requests hears of it
                results = [error] * len(batch)
            self.images, self.batches = self.images + len(batch), self.batches + 1
            self._loop.call_soon_threadsafe(_deliver, answers, results)

    def _take(self, most: int) -> list[tuple[Pixels, Future]]:
        """What is ready now, at most so many."""
        taken: list[tuple[Pixels, Future]] = []
        try:
            while len(taken) < most and (item := self._ready.get_nowait()) is not None:
                taken.append(item)
            if len(taken) < most:
                self._ready.put(None)  # the end is for the next round to see
        except Empty:
            pass
        return taken


def _deliver(answers: Sequence[Future], results: Sequence[Any]) -> None:
    """Hand out results in the event loop; a request that was given up meanwhile takes none."""
    for answer, result in zip(answers, results, strict=True):
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
