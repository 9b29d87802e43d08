"""The store holds each picture in its own slot, whatever the threads, the memory, or the picture next to it."""

import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

import store as module
from errors import DataError, ImageError
from images import Preparation, prepare
from samples import read_profiles
from store import ImageStore, Outcomes, refuse_or_skip, stream

PREPARATION = Preparation((32, 24), (50, 40))


@pytest.fixture
def paths(faces: Callable[..., Path]) -> list[Path]:
    return read_profiles(faces(people=6)).paths


def filled(paths: list[Path], threads: int = 2, memory_share: float = 0.5) -> ImageStore:
    store = ImageStore(paths, PREPARATION, threads=threads, memory_share=memory_share)
    store.fill()
    return store


def test_every_slot_holds_its_own_file(paths: list[Path]) -> None:
    store = filled(paths)
    assert (store.pixels.shape, store.pixels.dtype) == ((42, 32, 24, 3), np.uint8)
    for pixels, path in zip(store.pixels, paths, strict=True):
        assert np.array_equal(pixels, prepare(path, PREPARATION))


@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_the_number_of_threads_changes_nothing(paths: list[Path], threads: int) -> None:
    assert np.array_equal(filled(paths, threads).pixels, filled(paths, 3).pixels)


def test_memory_and_scratch_file_hold_the_same(paths: list[Path]) -> None:
    memory, file = filled(paths), filled(paths, memory_share=0.0)
    assert memory.in_memory
    assert not file.in_memory
    assert isinstance(file.pixels, np.memmap)
    assert np.array_equal(memory.pixels, file.pixels)


def test_the_budget_decides_between_memory_and_file(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    size = 42 * 32 * 24 * 3
    monkeypatch.setattr(module, "free_memory_bytes", lambda: 2 * size)
    assert ImageStore(paths, PREPARATION, memory_share=0.5).in_memory
    monkeypatch.setattr(module, "free_memory_bytes", lambda: 2 * size - 1)
    assert not ImageStore(paths, PREPARATION, memory_share=0.5).in_memory


def test_the_scratch_file_has_no_name_and_its_room_is_reserved(paths: list[Path], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = ImageStore(paths, PREPARATION, memory_share=0.0, scratch_dir=scratch)
    assert list(scratch.iterdir()) == []
    assert store.pixels.shape == (42, 32, 24, 3)


@pytest.mark.parametrize("folder", [None, "scratch"])
def test_a_disk_without_room_for_the_pictures_is_one_sentence_before_the_first_is_read(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    where = tmp_path if folder else None
    with pytest.raises(DataError, match=r"^no room for 96768 bytes of decoded pictures \(No space left on device\); "):
        ImageStore(paths, PREPARATION, memory_share=0.0, scratch_dir=where)


def test_every_bad_picture_is_reported_by_position_and_is_black(paths: list[Path]) -> None:
    good = filled(paths)
    paths[3].write_bytes(b"")
    paths[17].write_bytes(b"text")
    paths[41].unlink()
    store = ImageStore(paths, PREPARATION, threads=4)
    store.pixels[:] = 7
    bad = store.fill()
    assert {index: error.code for index, error in bad.items()} == {3: "empty", 17: "undecodable_image", 41: "missing"}
    assert not store.pixels[[3, 17, 41]].any()
    others = np.setdiff1d(np.arange(42), [3, 17, 41])
    assert np.array_equal(store.pixels[others], good.pixels[others])


def test_progress_sees_one_outcome_per_file(paths: list[Path]) -> None:
    paths[3].write_bytes(b"")
    seen: list[ImageError | None] = []

    def progress(outcomes: Outcomes) -> Iterable[ImageError | None]:
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    ImageStore(paths, PREPARATION).fill(progress)
    assert [index for index, outcome in enumerate(seen) if outcome] == [3]
    assert len(seen) == 42


def bad(count: int) -> dict[int, ImageError]:
    return {index: ImageError(f"cut off: {index}.jpg") for index in reversed(range(count))}


def test_without_bad_pictures_every_policy_is_content() -> None:
    refuse_or_skip({}, 100, "error", 0.0)
    refuse_or_skip({}, 100, "skip", 0.0)


def test_the_error_policy_names_the_first_three_and_counts_the_rest() -> None:
    with pytest.raises(DataError) as caught:
        refuse_or_skip(bad(5), 100, "error", 1.0)
    assert str(caught.value) == (
        "5 of 100 pictures cannot be used, mend them or pass --on-bad-image skip: "
        "cut off: 0.jpg; cut off: 1.jpg; cut off: 2.jpg; and 2 more"
    )


@pytest.mark.parametrize(("count", "total", "ratio"), [(1, 100, 0.01), (29, 100, 0.29), (7, 100, 0.07), (3, 3, 1.0)])
def test_up_to_the_share_that_is_allowed_pictures_are_left_out(count: int, total: int, ratio: float) -> None:
    refuse_or_skip(bad(count), total, "skip", ratio)
    with pytest.raises(DataError, match=re.escape(f"{count + 1} of {total} pictures cannot be used, more than")):
        refuse_or_skip(bad(count + 1), total, "skip", ratio)


@pytest.mark.parametrize("batch_size", [1, 5, 42, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_stream_gives_what_the_store_holds_in_order(paths: list[Path], batch_size: int, threads: int) -> None:
    paths[3].write_bytes(b"text")
    batches = list(stream(paths, PREPARATION, batch_size=batch_size, threads=threads))
    assert [len(pixels) for pixels, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), filled(paths).pixels)
    assert [error.code if error else None for _, errors in batches for error in errors] == [
        "undecodable_image" if index == 3 else None for index in range(42)
    ]


def test_a_stream_of_nothing_ends_at_once() -> None:
    assert list(stream([], PREPARATION, batch_size=4)) == []


def test_a_stream_is_one_batch_ahead_and_no_more(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def spy(batch: list[Path], preparation: Preparation, threads: int) -> tuple[np.ndarray, list[ImageError | None]]:
        started.extend(batch)
        return np.zeros((len(batch), 1, 1, 3), np.uint8), [None] * len(batch)

    monkeypatch.setattr(module, "_prepare_batch", spy)
    batches = stream(paths, PREPARATION, batch_size=7)
    next(batches)
    assert len(started) <= 14
    batches.close()  # type: ignore[attr-defined]
    assert len(started) <= 14
