"""The batches of an epoch depend on seed and epoch alone, so a run can resume at any step."""

import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.images import Pixels
from data.loader import Batch, Loader, derive_seed, generator
from data.resident_pixels import ResidentPixels
from runtime.errors import DataError, DeviceError

CPU = torch.device("cpu")


class Full:
    """A store with an array that is complete; it records which images were asked for."""

    def __init__(self, pixels: Pixels, has_room: bool = False) -> None:
        self.pixels, self.resident, self.has_room = pixels, ResidentPixels(), has_room
        self.moves = 0
        self.prioritized: list[int] = []
        self.waited: list[list[int] | None] = []
        self.on_wait: Callable[[], None] = lambda: None

    def prioritize(self, indices: NDArray[np.int64]) -> None:
        self.prioritized = indices.tolist()

    def wait(self, indices: NDArray[np.int64] | None = None) -> None:
        self.waited.append(None if indices is None else indices.tolist())
        self.on_wait()

    def move_to_gpu(self, device: torch.device) -> None:
        self.moves += 1
        if self.has_room:
            self.resident.fill(self.pixels, device)


PIXELS = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1) + np.zeros((1, 4, 3, 3), np.uint8)
LABELS = np.arange(100, dtype=np.int64) % 18


def loader(
    order: str = "shuffle",
    batch_size: int = 8,
    indices: NDArray[np.int64] | None = None,
    seed: int = 1,
    store: Full | None = None,
) -> Loader:
    chosen = np.arange(10, 60) if indices is None else indices
    return Loader(store or Full(PIXELS), LABELS, chosen, batch_size=batch_size, device=CPU, seed=seed, order=order)


def indices_of(batches: Iterable[Batch]) -> list[int]:
    return [int(index) for batch in batches for index in batch.indices]


def test_a_batch_has_the_pixels_and_labels_of_its_indices_channels_first() -> None:
    for batch in loader("shuffle").epoch(0):
        assert batch.pixels.shape == (8, 3, 4, 3)
        assert batch.pixels.dtype == torch.uint8
        assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
        assert batch.pixels[:, 0, 0, 0].tolist() == batch.indices.tolist()
        assert batch.labels.tolist() == LABELS[batch.indices].tolist()


def test_a_memory_mapped_store_gives_the_same_batches(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "store", np.uint8, "w+", shape=PIXELS.shape)
    mapped[:] = PIXELS
    indices = np.arange(10, 60)
    other = Loader(Full(mapped), LABELS, indices, batch_size=8, device=CPU, seed=1, order="shuffle")
    for first, second in zip(loader().epoch(3), other.epoch(3), strict=True):
        assert torch.equal(first.pixels, second.pixels)


@given(st.integers(1, 60), st.integers(1, 80))
def test_validation_sees_every_image_once_and_in_order_with_the_last_partial_batch(size: int, batch_size: int) -> None:
    indices = np.arange(100)[::-1][:size].copy()
    sequential = loader("sequential", batch_size, indices)
    batches = list(sequential.epoch(0))
    assert indices_of(batches) == indices.tolist()
    assert len(batches) == len(sequential) == -(-size // batch_size)
    assert sequential.samples_per_epoch == size


@given(st.integers(1, 60), st.integers(1, 80))
def test_training_sees_no_image_twice_and_only_full_batches_unless_there_is_only_one(
    size: int, batch_size: int
) -> None:
    shuffled = loader("shuffle", batch_size, np.arange(size))
    batches = list(shuffled.epoch(0))
    assert len(batches) == len(shuffled) == max(1, size // batch_size)
    assert {len(batch.indices) for batch in batches} == {min(size, batch_size)}
    assert len(set(indices_of(batches))) == len(indices_of(batches)) == shuffled.samples_per_epoch


def test_the_order_is_a_function_of_epoch_and_seed() -> None:
    def order(epoch: int, seed: int = 1) -> list[int]:
        return indices_of(loader(seed=seed).epoch(epoch))

    assert order(0) == order(0)
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in range(3)}) == 9


@pytest.mark.parametrize("order", ["sequential", "shuffle", "balanced"])
@pytest.mark.parametrize("start", [0, 1, 5, 6, 7])
def test_resuming_at_a_step_gives_the_remaining_batches(order: str, start: int) -> None:
    whole = list(loader(order).epoch(2))
    rest = list(loader(order).epoch(2, start))
    assert [batch.step for batch in rest] == list(range(len(whole)))[start:]
    for first, second in zip(whole[start:], rest, strict=True):
        assert np.array_equal(first.indices, second.indices)
        assert torch.equal(first.pixels, second.pixels)
        assert torch.equal(first.labels, second.labels)


def test_balanced_sampling_draws_all_classes_equally_often() -> None:
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    pixels = np.zeros((1000, 1, 1, 3), np.uint8)
    balanced = Loader(Full(pixels), labels, np.arange(1000), batch_size=100, device=CPU, order="balanced")
    drawn = np.concatenate([batch.labels for epoch in range(5) for batch in balanced.epoch(epoch)])
    counts = np.bincount(drawn)
    expected = len(drawn) / 3
    assert len(drawn) == 5000
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 degrees of freedom, 1 in 1,000
    rare = np.concatenate([batch.indices for batch in balanced.epoch(0)])
    assert len(set(rare[rare >= 990])) == 10


def test_balanced_sampling_draws_only_its_own_images_and_skips_absent_classes() -> None:
    indices = np.array([3, 4, 5, 21, 39])  # classes 3, 4, 5, 3, 3
    drawn = indices_of(loader("balanced", 5, indices).epoch(0))
    assert len(drawn) == 5
    assert set(drawn) <= set(indices.tolist())


def test_without_images_there_is_no_batch() -> None:
    empty = loader("shuffle", 8, np.arange(0))
    assert len(empty) == empty.samples_per_epoch == 0
    assert list(empty.epoch(0)) == []


@pytest.mark.parametrize("order", ["sequential", "shuffle", "balanced"])
def test_no_global_random_state_is_read_or_changed(order: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = indices_of(loader(order).epoch(0))
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert indices_of(loader(order).epoch(0)) == first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]


def test_a_derived_seed_depends_on_every_part_and_fits_torch() -> None:
    seeds = [
        derive_seed(*parts) for parts in [(42, 0), (42, 1), (43, 0), (0, 42), (4, 20), (42, 0, "order"), (42, 0, 0)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(42, 0, "order") == seeds[5]
    assert torch.rand(1, generator=generator(42, 0)) == torch.rand(1, generator=generator(42, 0))


def test_the_store_decodes_in_the_order_of_the_batches_and_in_the_end_everything() -> None:
    store = Full(PIXELS)
    indices = indices_of(loader(store=store).epoch(1, 2))
    assert store.prioritized[: len(indices)] == indices
    assert [index for waited in store.waited[:-1] for index in waited or []] == indices
    assert store.waited[-1] is None


def test_a_batch_is_copied_while_the_one_before_is_used_and_no_earlier() -> None:
    store = Full(PIXELS)
    batches = loader(store=store).epoch(0)
    next(batches)
    assert len(store.waited) <= 2
    next(batches)
    assert 2 <= len(store.waited) <= 3
    assert isinstance(batches, Generator)
    batches.close()
    assert None not in store.waited, "an epoch that was left early did not wait for everything"


def test_an_error_of_the_store_is_raised_for_the_next_batch() -> None:
    def fail() -> None:
        raise DataError("3 of 100 images cannot be used")

    broken = Full(PIXELS)
    broken.on_wait = fail
    with pytest.raises(DataError, match="3 of 100"):
        next(loader(store=broken).epoch(0))


def test_random_batches_come_from_the_gpu_after_a_whole_epoch_of_this_process() -> None:
    store = Full(PIXELS)
    batches = loader(store=store)
    moves = []
    for epoch, start in ((3, len(batches)), (4, 2), (5, 0), (6, 0)):  # resumed at the end of an epoch
        list(batches.epoch(epoch, start))
        moves.append(store.moves)
    assert moves == [0, 0, 1, 2]
    left = batches.epoch(7)
    next(left)
    assert store.moves == 3
    validation = loader("sequential", store=store)
    for _ in range(3):
        list(validation.epoch(0))
    assert store.moves == 3, "images that are read once an epoch are not worth it"


@pytest.mark.parametrize("order", ["shuffle", "balanced"])
def test_batches_of_the_copy_on_the_gpu_have_the_same_bits(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 0))
    store = Full(PIXELS, has_room=True)
    batches = loader(order, store=store)
    for epoch in range(3):
        found = []
        for batch in batches.epoch(epoch):
            found.append(batch)
            if epoch == 2 and batch.step == 2:
                assert store.resident.release(), "memory ran out in a step"
        for first, second in zip(found, loader(order).epoch(epoch), strict=True):
            assert torch.equal(first.pixels, second.pixels)
            assert torch.equal(first.labels, second.labels)
            assert first.pixels.stride() == second.pixels.stride()


def run_out(batches: Loader, times: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make a loader run out of memory where it copies the third and later batches; return the threads that copied."""
    gather, threads = batches._gather, []

    def limited(indices: NDArray[np.int64], batch: torch.Tensor) -> None:
        threads.append(threading.current_thread().name)
        if 3 <= len(threads) < 3 + times:
            raise torch.AcceleratorError("CUDA error: out of memory\nmore")
        gather(indices, batch)

    monkeypatch.setattr(batches, "_gather", limited)
    return threads


def test_a_batch_without_memory_is_copied_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = loader()
    threads = run_out(batches, 1, monkeypatch)
    found = list(batches.epoch(0))
    assert threads.count("MainThread") == 1
    for first, second in zip(found, loader().epoch(0), strict=True):
        assert torch.equal(first.pixels, second.pixels)


@pytest.mark.parametrize("has_room", [True, False])
def test_memory_for_batches_is_taken_between_two_steps(has_room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 0))
    batches = loader(store=Full(PIXELS, has_room))
    list(batches.epoch(0))
    empty, threads = torch.empty, []

    def noted(*arguments: Any, **options: Any) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        return empty(*arguments, **options)

    monkeypatch.setattr(torch, "empty", noted)
    with torch.inference_mode():
        found = list(batches.epoch(1))
    assert set(threads) == {"MainThread"}
    assert len(threads) >= 2 * len(found)


def test_a_batch_that_never_fits_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = loader()
    run_out(batches, 99, monkeypatch)
    with pytest.raises(DeviceError, match=r"no memory left \(CUDA error: out of memory\); lower --batch-size"):
        list(batches.epoch(0))


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
def test_a_gpu_gets_the_batches_of_a_cpu(resident: bool) -> None:
    device = torch.device("cuda")
    store = Full(PIXELS, resident)
    on_gpu = Loader(store, LABELS, np.arange(10, 60), batch_size=8, device=device, seed=1, order="shuffle")
    list(on_gpu.epoch(2))
    for first, second in zip(loader().epoch(3), on_gpu.epoch(3), strict=True):
        assert second.pixels.is_cuda
        assert torch.equal(first.pixels, second.pixels.cpu())
        assert torch.equal(first.labels, second.labels.cpu())


def test_the_next_batch_is_copied_while_this_one_is_used() -> None:
    store, second = Full(PIXELS), threading.Event()

    def note() -> None:
        if len(store.waited) == 2:
            second.set()

    store.on_wait = note
    next(loader(store=store).epoch(0))
    assert second.wait(5)
