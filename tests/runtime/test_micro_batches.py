"""When memory runs out, a batch is split into smaller micro-batches until they fit, and the work starts over."""

from collections.abc import Callable

import pytest
import torch

from runtime.errors import DeviceError
from runtime.micro_batches import MicroBatches, retry

NO_ENGINE = "GET was unable to find an engine to execute this computation"


def device_with(images: int, batch: int, calls: list[int]) -> Callable[[int], str]:
    """Return work on `batch` images for a device with memory for `images` of them; it notes each count in `calls`."""

    def work(count: int) -> str:
        calls.append(count)
        if -(-batch // count) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nGPU 0 has ...")
        return "done"

    return work


@pytest.mark.parametrize(
    ("images", "batch", "expected"),
    [(64, 64, [1]), (32, 64, [1, 2]), (5, 64, [1, 2, 4, 8, 16]), (1, 6, [1, 2, 4, 6]), (2, 7, [1, 2, 4])],
)
def test_micro_batches_double_until_they_fit(
    images: int, batch: int, expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    micro_batches = MicroBatches()
    assert micro_batches.run(device_with(images, batch, calls), batch) == "done"
    assert calls == expected
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(expected) - 1, "one warning for each halving"
    calls.clear()
    micro_batches.run(device_with(images, batch, calls), batch)
    assert calls == expected[-1:], "later batches are split at once"


def test_cached_memory_is_freed_before_each_new_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))
    MicroBatches().run(device_with(5, 20, []), 20)
    assert len(freed) == 2


def test_a_single_image_that_does_not_fit_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match=r"single image \(CUDA out of memory\. Tried to allocate 20 MiB\.\)"):
        MicroBatches().run(device_with(0, 8, []), 8)


def test_the_reason_of_a_single_image_that_does_not_fit_is_the_original_error() -> None:
    def work(count: int) -> None:
        raise RuntimeError(NO_ENGINE)

    with pytest.raises(DeviceError, match=rf"no memory for a single image \({NO_ENGINE}\); lower --batch-size"):
        MicroBatches().run(work, 2)


def test_what_can_be_given_back_is_given_back_before_batches_are_split(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[str] = []

    def work(count: int) -> int:
        events.append(f"work {count}")
        if len([event for event in events if event.startswith("work")]) < 3:
            raise RuntimeError(NO_ENGINE)
        return count

    def release() -> bool:
        events.append("release")
        return events.count("release") == 1

    micro_batches = MicroBatches(release=release)
    assert micro_batches.run(work, 8, undo=lambda: events.append("undo")) == 2
    assert events == ["work 1", "undo", "release", "work 1", "undo", "release", "work 2"]
    assert micro_batches.count == 2
    assert capsys.readouterr().err.count("splitting each batch") == 1


@pytest.mark.parametrize(("memory", "expected"), [(64, [1, 1]), (63, [1, 1, 2]), (16, [1, 1, 2, 4])])
def test_batches_are_split_only_if_they_do_not_fit_without_what_torch_has_cached(
    memory: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, calls = 10, []

    def empty_cache() -> None:
        nonlocal cached
        cached = 0

    def work(count: int) -> int:
        nonlocal cached
        calls.append(count)
        room, cached = memory - cached, 10
        if 64 // count > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return count

    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: cached)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    MicroBatches().run(work, 64)
    assert calls == expected


def test_work_that_cannot_be_split_is_done_once_more_after_the_release() -> None:
    events: list[str] = []

    def work() -> str:
        events.append("work")
        if events == ["work"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    def release() -> bool:
        events.append("release")
        return True

    assert retry(work, release) == "done"
    assert events == ["work", "release", "work"]


def test_work_that_cannot_be_split_and_never_fits_is_a_sentence() -> None:
    def work() -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    with pytest.raises(DeviceError, match=r"^the device has no memory left \(CUDA error: out of memory\); lower"):
        retry(work)


def test_work_that_fails_for_another_reason_is_not_done_again() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        retry(work)
    assert calls == [1]


def test_other_errors_are_raised() -> None:
    def work(count: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        MicroBatches().run(work, 8)


def test_the_tensors_of_a_failed_attempt_are_freed_before_the_next() -> None:
    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def work(count: int) -> int:
        already = Held.alive
        held = Held()
        if count < 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        del held
        return already

    assert MicroBatches().run(work, 8) == 0
