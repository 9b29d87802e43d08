"""Concurrent requests are batched: one model call for many images.

Bodies are decoded in processes (slot_pool.py). As soon as the model is free, one thread takes all images that are
ready, at most `batch_size`, and calls it once. Nothing waits for more images to come: a single client has no delay, and
batches grow by themselves under load. The queue is bounded, and only one model call runs at a time.

A result that is not wanted anymore is a cancelled future: its image is neither decoded nor computed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels
from runtime.errors import DecodingError
from server.slot_pool import NoSlotError

Probabilities = NDArray[np.float32]
Future = asyncio.Future[Probabilities]
Result = tuple[int, Future, Probabilities | Exception | None]  # None: nobody wants it


class QueueFullError(Exception):
    """The queue already has `max_waiting` images."""


class Slots(Protocol):
    """What a batcher needs of slot_pool.SlotPool."""

    pixels: Pixels  # (slots, height, width, 3)

    def reserve(self) -> int: ...
    def submit(self, slot: int, parts: Sequence[bytes | bytearray], *, is_gzipped: bool) -> None: ...
    def cancel(self, slot: int) -> None: ...
    def wait(self) -> list[int]: ...
    def wake(self) -> None: ...
    def take(self, slots: Sequence[int]) -> None: ...
    def error(self, slot: int) -> Exception | None: ...
    def release(self, slots: Iterable[int]) -> None: ...
    def reset(self, slot: int) -> None: ...


class Batcher:
    """Takes bodies one by one and predicts them in batches. Belongs to the event loop that created it."""

    def __init__(
        self,
        predict: Callable[[Pixels], Probabilities],
        slots: Slots,
        *,
        batch_size: int,
        max_waiting: int,
        warm_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread of the model, which first calls `warm_up`.

        `predict` maps pixels (batch, height, width, 3) to probabilities (batch, classes). What a network needs once for
        each size of a batch belongs to the thread that calls it, so `warm_up` must run there.
        """
        self.predict, self._slots, self._warm_up = predict, slots, warm_up
        self.batch_size, self.max_waiting = batch_size, max_waiting
        self.images = self.batches = 0  # computed so far
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = self._loop.create_future()  # or the exception of `warm_up`
        self.failed: asyncio.Future[DecodingError] = self._loop.create_future()  # when nothing can be decoded any more
        self._waiting: set[Future] = set()  # those without a result yet
        self._futures: dict[int, Future] = {}  # by slot, until the slot is released
        self._handed: set[Future] = set()  # those whose results are on their way to the event loop
        self._is_closing = False
        self._model = Thread(target=self._run, name="model", daemon=True)
        self._model.start()

    @property
    def waiting(self) -> int:
        """Return how many images have no result yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self.max_waiting

    def enqueue(self, parts: Sequence[bytes | bytearray], *, is_gzipped: bool = False) -> Future:
        """Return a future of the probabilities (classes,) of the image in a body, or of the error that it has.

        Cancel it, and the image is neither decoded nor computed. Raises QueueFullError if too many images are waiting.
        """
        if self.is_full:
            raise QueueFullError
        try:
            slot = self._slots.reserve()
        except NoSlotError:
            raise QueueFullError from None
        future: Future = self._loop.create_future()
        self._futures[slot] = future  # before it can be ready
        try:
            self._slots.submit(slot, parts, is_gzipped=is_gzipped)
        except NoSlotError:
            self._release(slot)
            raise QueueFullError from None
        self._waiting.add(future)
        future.add_done_callback(partial(self._forget, slot))
        return future

    async def submit(self, parts: Sequence[bytes | bytearray]) -> Probabilities:
        """Return the probabilities (classes,) of an image as `enqueue` does."""
        return await self.enqueue(parts)

    def give_up(self, error: Exception) -> None:
        """Let all images that have no result yet fail with an error."""
        for future in [*self._waiting]:
            if not future.done():
                future.set_exception(error)

    def close(self, seconds: float = 60.0) -> bool:
        """End the thread after everything that was submitted has its result; return False if that takes longer."""
        ends = time.monotonic() + seconds
        self._is_closing = True
        self._slots.wake()
        self._model.join(max(0.0, ends - time.monotonic()))
        return not self._model.is_alive()

    def _forget(self, slot: int, future: Future) -> None:
        self._waiting.discard(future)
        if self._futures.get(slot) is future:  # it has no result of its own: nobody waits for it any more
            self._slots.cancel(slot)

    def _release(self, slot: int) -> None:
        del self._futures[slot]
        self._slots.release([slot])

    # in the thread of the model

    def _run(self) -> None:
        """Call the model for one batch after the other, until the batcher is closed."""
        try:
            self._warm_up()
        except Exception as error:
            self._call(_set_exception, self.started, error)
            return
        self._call(_set_result, self.started, None)
        while not (self._is_closing and self._is_drained()):
            try:
                ready = self._slots.wait()
            except DecodingError as error:
                self._call(_set_result, self.failed, error)
                return
            self._deliver_in_loop(self._sort_out(ready))

    def _sort_out(self, ready: list[int]) -> list[Result]:
        """Compute the images that are ready and wanted, at most `batch_size`; return the results."""
        batch: list[tuple[int, Future]] = []
        others: list[Result] = []
        for slot in ready:
            if len(batch) == self.batch_size:
                break
            if (future := self._futures.get(slot)) is None:
                self._call(self._reset, slot)
            elif future.done() or future in self._handed:
                others.append((slot, future, None))
            elif error := self._slots.error(slot):
                others.append((slot, future, error))
            else:
                batch.append((slot, future))
        slots = [slot for slot, _ in batch]
        self._slots.take([*slots, *(slot for slot, _, _ in others)])
        if not batch:
            return others
        self._deliver_in_loop(others)  # they need not wait for the model
        results: Sequence[Probabilities | Exception]
        try:
            results = list(self.predict(self._slots.pixels[slots]))
        except Exception as error:  # these requests fail, the server does not
            results = [error] * len(batch)
        self.images, self.batches = self.images + len(batch), self.batches + 1
        return [(slot, future, result) for (slot, future), result in zip(batch, results, strict=True)]

    def _is_drained(self) -> bool:
        return all(future.done() or future in self._handed for future in [*self._futures.values()])

    def _deliver_in_loop(self, results: list[Result]) -> None:
        if results:
            self._handed.update(future for _, future, _ in results)
            self._call(self._deliver, results)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    # in the event loop

    def _deliver(self, results: list[Result]) -> None:
        """Set the results; futures that are done already keep theirs."""
        for slot, future, result in results:
            self._handed.discard(future)
            if self._futures.get(slot) is future:  # else it was decoded twice, and the slot has another image now
                self._release(slot)
            if future.done() or result is None:
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _reset(self, slot: int) -> None:
        if slot not in self._futures:
            self._slots.reset(slot)


def _set_exception(future: "asyncio.Future[None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _set_result(future: "asyncio.Future[object]", result: object) -> None:
    if not future.done():
        future.set_result(result)
