"""Concurrent images share a batch, a single one is not delayed, and each gets its own result."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from data.images import Pixels
from runtime.errors import DecodingError, ImageError
from server.batching import Batcher, QueueFullError
from support.memory_slots import MemorySlots


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


def an_image(value: int) -> list[bytes]:
    return [bytes([value])]


class FakeSlots(MemorySlots):
    """Slots without processes: a body of one byte becomes an image of that value, at once or when it is let go."""

    def __init__(self, count: int = 1000) -> None:
        super().__init__(count, (2, 2))
        self.is_holding = False
        self.held: list[int] = []  # slots that are not decoded yet
        self.decoded: list[int] = []  # values
        self._bodies: dict[int, bytes] = {}

    def submit(self, slot: int, parts: Sequence[bytes | bytearray], *, is_gzipped: bool) -> None:
        self._bodies[slot] = b"".join(parts)
        self.cancelled.discard(slot)
        self.held.append(slot)
        if not self.is_holding:
            self.let_go()

    def let_go(self) -> None:
        """Decode what is held, unless it is cancelled."""
        bodies = {slot: self._bodies.pop(slot) for slot in self.held}
        self.held = []
        for slot, body in bodies.items():
            if slot not in self.cancelled and body != b"bad":
                self.decoded.append(body[0])
                self.pixels[slot] = body[0]
        self.report({slot: ImageError("no image") if body == b"bad" else None for slot, body in bodies.items()})


def run(
    scenario: Callable[[Batcher, Model, FakeSlots], Awaitable[None]], *, batch_size: int = 8, max_waiting: int = 100
) -> tuple[Batcher, Model]:
    """Run a scenario, then close the batcher as the server does; all slots are free again afterwards."""
    model, slots = Model(), FakeSlots()

    async def play() -> Batcher:
        batcher = Batcher(model, slots, batch_size=batch_size, max_waiting=max_waiting)
        try:
            await asyncio.wait_for(scenario(batcher, model, slots), 20)
        finally:
            model.gate.set()
            await asyncio.to_thread(batcher.close)
            await asyncio.sleep(0)
        return batcher

    batcher = asyncio.run(play())
    assert sorted(slots.free) == list(range(1000))
    return batcher, model


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def behind_a_running_call(
    batcher: Batcher, model: Model, slots: FakeSlots, count: int
) -> list[asyncio.Task[Any]]:
    """Start one call, and wait until `count` more images are decoded for the next."""
    model.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(an_image(0)))]
    await until(lambda: model.batches == [1])
    tasks += [asyncio.create_task(batcher.submit(an_image(value))) for value in range(1, count + 1)]
    await until(lambda: slots.count() == count)
    return tasks


def test_all_images_that_are_ready_go_into_one_call() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 5)
        model.gate.set()
        assert [int(row[0]) for row in await asyncio.gather(*tasks)] == list(range(6))

    batcher, model = run(scenario)
    assert model.batches == [1, 5]
    assert (batcher.images, batcher.batches, batcher.waiting) == (6, 2, 0)


def test_a_call_never_has_more_images_than_the_batch_size() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 9)
        model.gate.set()
        await asyncio.gather(*tasks)

    assert run(scenario, batch_size=4)[1].batches == [1, 4, 4, 1]


def test_a_single_client_is_never_delayed() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        for value in range(20):
            assert await batcher.submit(an_image(value)) == [value]

    assert run(scenario)[1].batches == [1] * 20


def test_every_request_gets_the_result_of_its_own_image() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        values = np.random.default_rng(0).integers(0, 256, 400).tolist()
        rows = await asyncio.gather(*(batcher.submit(an_image(value)) for value in values))
        assert [int(row[0]) for row in rows] == values

    run(scenario, max_waiting=400)


def test_a_full_queue_rejects_at_once_and_accepts_again_when_there_is_room() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 2)
        assert batcher.is_full
        with pytest.raises(QueueFullError):
            await batcher.submit(an_image(9))
        model.gate.set()
        await asyncio.gather(*tasks)
        assert await batcher.submit(an_image(9)) == [9]

    assert run(scenario, max_waiting=3)[1].batches == [1, 2, 1]


def test_an_unreadable_image_fails_only_its_own_request() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        good, bad = await asyncio.gather(batcher.submit(an_image(4)), batcher.submit([b"bad"]), return_exceptions=True)
        assert good == [4]
        assert isinstance(bad, ImageError)

    assert run(scenario)[1].batches == [1]


def test_a_failed_model_call_fails_all_its_requests_and_no_later_one() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 3)
        model.failure = RuntimeError("no memory")
        model.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["no memory"] * 4
        model.failure = None
        assert await batcher.submit(an_image(5)) == [5]

    run(scenario)


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 2)
        tasks[1].cancel()
        model.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert (outcomes[0], outcomes[2]) == ([0], [2])
        assert batcher.waiting == 0

    run(scenario)


def test_an_image_whose_request_is_cancelled_is_neither_decoded_nor_computed() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        slots.is_holding = True
        futures = [batcher.enqueue(an_image(value)) for value in range(4)]
        for future in (futures[0], futures[2]):
            future.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 2
        slots.let_go()
        assert [await futures[1], await futures[3]] == [[1], [3]]
        assert slots.decoded == [1, 3]

    assert run(scenario)[0].images == 2


def test_an_image_that_is_decoded_twice_is_neither_computed_twice_nor_mixed_up() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        model.gate.clear()
        slot = slots.free[-1]
        first = batcher.enqueue(an_image(1))
        await until(lambda: model.batches == [1])
        slots.report({slot: None})
        model.gate.set()
        assert await first == [1]
        slots.report({slot: None})  # and again, when nobody has the slot
        await until(lambda: slots.count() == 0)
        assert await batcher.submit(an_image(2)) == [2]

    assert run(scenario)[1].batches == [1, 1]


def test_without_a_slot_the_queue_is_full() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        slots.free, free = [], slots.free
        with pytest.raises(QueueFullError):
            batcher.enqueue(an_image(1))
        slots.free = free
        assert batcher.waiting == 0
        assert await batcher.submit(an_image(2)) == [2]

    run(scenario)


def test_the_model_warms_up_in_its_own_thread_before_the_first_call() -> None:
    threads: list[str] = []

    def predict(pixels: Pixels) -> Any:
        threads.append(threading.current_thread().name)
        return np.zeros((len(pixels), 1), np.float32)

    async def play() -> None:
        warm_up = lambda: threads.append(f"{threading.current_thread().name}, warming up")  # noqa: E731
        batcher = Batcher(predict, FakeSlots(), batch_size=1, max_waiting=1, warm_up=warm_up)
        await batcher.started
        await batcher.submit(an_image(1))
        batcher.close()

    asyncio.run(play())
    assert threads == ["model, warming up", "model"]


def test_a_failure_to_warm_up_is_raised_and_ends_the_thread() -> None:
    def fail() -> None:
        raise RuntimeError("no kernels")

    async def play() -> None:
        batcher = Batcher(Model(), FakeSlots(), batch_size=1, max_waiting=1, warm_up=fail)
        with pytest.raises(RuntimeError, match="no kernels"):
            await batcher.started
        assert batcher.close(5)

    asyncio.run(play())


def test_when_nothing_can_be_decoded_any_more_the_batcher_says_so() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        slots.failure = DecodingError("they ended")
        assert await batcher.failed is slots.failure

    run(scenario)


def test_giving_up_fails_what_has_no_result_yet() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 3)
        batcher.give_up(RuntimeError("stop"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["stop"] * 4
        assert batcher.waiting == 0
        model.gate.set()
        assert await batcher.submit(an_image(5)) == [5]

    assert run(scenario)[1].batches == [1, 1]


def test_closing_does_not_wait_for_a_thread_that_does_not_end() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        (task,) = await behind_a_running_call(batcher, model, slots, 0)
        assert not batcher.close(0.01)
        model.gate.set()
        assert await task == [0]

    run(scenario)


def test_closing_ends_the_threads_after_the_last_call() -> None:
    before = set(threading.enumerate())

    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 3)
        model.gate.set()
        await asyncio.to_thread(batcher.close)
        assert [int(row[0]) for row in await asyncio.gather(*tasks)] == [0, 1, 2, 3]

    run(scenario)
    assert {thread for thread in threading.enumerate() if "model" in thread.name or "decode" in thread.name} <= before


def test_an_image_that_is_decoded_during_the_close_gets_its_result() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        slots.is_holding = True
        task = asyncio.create_task(batcher.submit(an_image(7)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await until(lambda: batcher._is_closing)
        slots.let_go()
        assert int((await asyncio.wait_for(task, 5))[0]) == 7
        await closing

    run(scenario)


def test_a_full_batch_during_the_close_is_not_the_last() -> None:
    async def scenario(batcher: Batcher, model: Model, slots: FakeSlots) -> None:
        tasks = await behind_a_running_call(batcher, model, slots, 9)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await until(lambda: batcher._is_closing)
        model.gate.set()
        await asyncio.gather(*tasks)
        await asyncio.wait_for(closing, 5)

    assert run(scenario, batch_size=4)[1].batches == [1, 4, 4, 1]
