"""Concurrent images share a batch, a single one is not delayed, and each gets its own result."""

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from data.images import Pixels
from runtime.errors import ImageError
from server.batching import Batcher, QueueFullError


class Model:
    """Returns the first value of each image; calls wait while the gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.is_running = threading.Lock()
        self.failure: Exception | None = None

    def __call__(self, pixels: Pixels) -> Any:
        assert self.is_running.acquire(blocking=False), "two model calls at once"
        try:
            self.batches.append(len(pixels))
            assert self.gate.wait(10)
            if self.failure:
                raise self.failure
            return pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)
        finally:
            self.is_running.release()


def an_image(value: int) -> Callable[[], Pixels]:
    return lambda: np.full((2, 2, 3), value, np.uint8)


def run(
    scenario: Callable[[Batcher, Model], Awaitable[None]], *, batch_size: int = 8, max_waiting: int = 100
) -> tuple[Batcher, Model]:
    """Run a scenario, then close the batcher as the server does."""
    model = Model()

    async def play() -> Batcher:
        batcher = Batcher(model, batch_size=batch_size, max_waiting=max_waiting, threads=2)
        try:
            await asyncio.wait_for(scenario(batcher, model), 20)
        finally:
            model.gate.set()
            await asyncio.to_thread(batcher.close)
        return batcher

    return asyncio.run(play()), model


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def behind_a_running_call(batcher: Batcher, model: Model, count: int) -> list[asyncio.Task[Any]]:
    """Start one call, and wait until `count` more images are prepared for the next."""
    model.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(an_image(0)))]
    await until(lambda: model.batches == [1])
    tasks += [asyncio.create_task(batcher.submit(an_image(value))) for value in range(1, count + 1)]
    await until(lambda: batcher._ready.qsize() == count)
    return tasks


def test_all_images_that_are_ready_go_into_one_call() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 5)
        model.gate.set()
        assert [int(row[0]) for row in await asyncio.gather(*tasks)] == list(range(6))

    batcher, model = run(scenario)
    assert model.batches == [1, 5]
    assert (batcher.images, batcher.batches, batcher.waiting) == (6, 2, 0)


def test_a_call_never_has_more_images_than_the_batch_size() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 9)
        model.gate.set()
        await asyncio.gather(*tasks)

    assert run(scenario, batch_size=4)[1].batches == [1, 4, 4, 1]


def test_a_single_client_is_never_delayed() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        for value in range(20):
            assert await batcher.submit(an_image(value)) == [value]

    assert run(scenario)[1].batches == [1] * 20


def test_every_request_gets_the_result_of_its_own_image() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        values = np.random.default_rng(0).integers(0, 256, 400).tolist()
        rows = await asyncio.gather(*(batcher.submit(an_image(value)) for value in values))
        assert [int(row[0]) for row in rows] == values

    run(scenario, max_waiting=400)


def test_a_full_queue_rejects_at_once_and_accepts_again_when_there_is_room() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 2)
        assert batcher.is_full
        with pytest.raises(QueueFullError):
            await batcher.submit(an_image(9))
        model.gate.set()
        await asyncio.gather(*tasks)
        assert await batcher.submit(an_image(9)) == [9]

    assert run(scenario, max_waiting=3)[1].batches == [1, 2, 1]


def test_an_unreadable_image_fails_only_its_own_request() -> None:
    def unreadable() -> Pixels:
        raise ImageError("no image")

    async def scenario(batcher: Batcher, model: Model) -> None:
        good, bad = await asyncio.gather(
            batcher.submit(an_image(4)), batcher.submit(unreadable), return_exceptions=True
        )
        assert good == [4]
        assert isinstance(bad, ImageError)

    assert run(scenario)[1].batches == [1]


def test_a_failed_model_call_fails_all_its_requests_and_no_later_one() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 3)
        model.failure = RuntimeError("no memory")
        model.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["no memory"] * 4
        model.failure = None
        assert await batcher.submit(an_image(5)) == [5]

    run(scenario)


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 2)
        tasks[1].cancel()
        model.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert (outcomes[0], outcomes[2]) == ([0], [2])
        assert batcher.waiting == 0

    run(scenario)


def test_an_image_whose_request_is_cancelled_is_neither_prepared_nor_computed() -> None:
    prepared: list[int] = []

    def an_image_of_note(value: int) -> Callable[[], Pixels]:
        return lambda: prepared.append(value) or an_image(value)()  # type: ignore[func-returns-value]

    async def scenario(batcher: Batcher, model: Model) -> None:
        gate, bodies = threading.Event(), [set[int]() for _ in range(4)]
        for _ in range(2):  # both threads are busy
            batcher.enqueue(lambda: gate.wait(10) and an_image(0)())  # type: ignore[arg-type, return-value]
        futures = [batcher.enqueue(an_image_of_note(value)) for value in range(4)]
        held = weakref.ref(bodies[0])
        futures.append(batcher.enqueue(partial(lambda body: an_image(9)(), bodies.pop(0))))
        assert held() is not None
        for future in (futures[0], futures[2], futures[4]):
            future.cancel()
        await asyncio.sleep(0)
        assert held() is None, "the body is kept although nobody wants it"
        assert batcher.waiting == 4
        model.gate.clear()
        gate.set()
        await until(lambda: prepared == [1, 3] and model.batches != [])
        await until(lambda: sum(model.batches) + batcher._ready.qsize() == 4)
        futures[3].cancel()
        model.gate.set()
        assert await futures[1] == [1]

    batcher, _ = run(scenario, batch_size=1)
    assert prepared == [1, 3]
    assert batcher.images in (3, 4)  # 4 if the model already had the last one


def test_giving_up_fails_what_has_no_result_yet() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 3)
        batcher.give_up(RuntimeError("stop"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["stop"] * 4
        assert batcher.waiting == 0
        model.gate.set()
        assert await batcher.submit(an_image(5)) == [5]

    assert run(scenario)[1].batches == [1, 1]


def test_closing_does_not_wait_for_a_thread_that_does_not_end() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        (task,) = await behind_a_running_call(batcher, model, 0)
        assert not batcher.close(0.01)
        model.gate.set()
        assert await task == [0]

    run(scenario)


def test_closing_ends_the_threads_after_the_last_call() -> None:
    before = set(threading.enumerate())

    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 3)
        model.gate.set()
        await asyncio.to_thread(batcher.close)
        assert [int(row[0]) for row in await asyncio.gather(*tasks)] == [0, 1, 2, 3]

    run(scenario)
    assert {thread for thread in threading.enumerate() if "model" in thread.name or "decode" in thread.name} <= before


def test_an_image_that_is_decoded_during_the_close_gets_its_result() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        gate = threading.Event()

        def slow() -> Pixels:
            assert gate.wait(10)
            return an_image(7)()

        task = asyncio.create_task(batcher.submit(slow))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await until(lambda: batcher._jobs.qsize() == 1)  # the end, which only the other thread has reached
        gate.set()
        assert int((await asyncio.wait_for(task, 5))[0]) == 7
        await closing

    run(scenario)


def test_a_full_batch_in_front_of_the_end_does_not_hide_it() -> None:
    async def scenario(batcher: Batcher, model: Model) -> None:
        tasks = await behind_a_running_call(batcher, model, 3)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await until(lambda: batcher._ready.qsize() == 4)
        model.gate.set()
        await asyncio.gather(*tasks)
        await asyncio.wait_for(closing, 5)

    run(scenario)
