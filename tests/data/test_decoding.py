"""Threads change when an image is decoded and never its pixels; a stream yields images in order."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data import decoding as module
from data.decoding import Decoding, Outcome, stream
from data.digests import file_digests
from data.images import Pixels, Preparation, prepare
from data.samples import read_profiles

PREPARATION = Preparation((32, 24), (50, 40))


@pytest.fixture
def paths(faces: Callable[..., Path]) -> list[Path]:
    return read_profiles(faces(people=6)).paths


def blank(paths: list[Path]) -> Pixels:
    return np.full((len(paths), 32, 24, 3), 7, np.uint8)


def decoded(paths: list[Path], threads: int = 2) -> Pixels:
    pixels = blank(paths)
    Decoding(paths, PREPARATION, pixels, range(len(paths)), threads).wait()
    return pixels


class Gate:
    """A `prepare` that waits for a permit before each image, and records which it was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Path] = []
        self.permits = threading.Semaphore(0)
        monkeypatch.setattr(module, "prepare", self.prepare)

    def prepare(self, data: bytes, preparation: Preparation, name: str) -> Pixels:
        self.seen.append(Path(name))
        self.permits.acquire()
        return prepare(data, preparation, name)


@pytest.mark.parametrize("threads", [0, 1, 2, 4, 100])
def test_every_index_holds_its_own_file_with_any_number_of_threads(paths: list[Path], threads: int) -> None:
    expected = np.stack([prepare(path, PREPARATION) for path in paths])
    assert np.array_equal(decoded(paths, threads), expected)


def test_indices_that_are_not_listed_count_as_decoded(paths: list[Path]) -> None:
    pixels = blank(paths)
    decoding = Decoding(paths, PREPARATION, pixels, [3, 5])
    decoding.wait()
    assert np.flatnonzero((pixels != 7).any((1, 2, 3))).tolist() == [3, 5]
    assert decoding.complete


def test_prioritized_images_are_decoded_first_and_in_the_given_order(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    decoding = Decoding(paths, PREPARATION, blank(paths), range(42), threads=1)
    while not gate.seen:  # the first image is being decoded
        pass
    decoding.prioritize([30, 0, 20, 20, 10])
    gate.permits.release(42)
    decoding.wait()
    assert [paths.index(path) for path in gate.seen[:5]] == [0, 30, 20, 10, 1]
    assert len(gate.seen) == 42


def test_waiting_for_some_images_does_not_wait_for_the_others(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    pixels = blank(paths)
    decoding = Decoding(paths, PREPARATION, pixels, range(42), threads=2)
    gate.permits.release(10)
    decoding.wait(np.array([2, 7]))
    assert np.array_equal(pixels[7], prepare(paths[7], PREPARATION))
    assert not decoding.complete
    gate.permits.release(32)
    decoding.wait()
    assert decoding.complete


def test_closing_drops_the_queue_and_leaves_no_thread(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    before = threading.active_count()
    decoding = Decoding(paths, PREPARATION, blank(paths), range(42), threads=2)
    gate.permits.release(5)
    closing = threading.Thread(target=decoding.close)
    closing.start()
    while decoding._queue:
        pass
    gate.permits.release(2)  # the two that are being decoded
    closing.join()
    assert threading.active_count() == before
    assert len(gate.seen) < 42


def test_every_bad_image_is_reported_by_index_and_is_black(paths: list[Path]) -> None:
    good = decoded(paths)
    paths[3].write_bytes(b"")
    paths[17].write_bytes(b"text")
    paths[41].unlink()
    pixels = blank(paths)
    decoding = Decoding(paths, PREPARATION, pixels, range(42), threads=4)
    decoding.wait()
    assert {index: error.code for index, error in decoding.bad.items()} == {
        3: "empty",
        17: "undecodable_image",
        41: "missing",
    }
    assert not pixels[[3, 17, 41]].any()
    others = np.setdiff1d(np.arange(42), [3, 17, 41])
    assert np.array_equal(pixels[others], good[others])


def test_a_bad_image_ends_a_wait_that_is_until_bad(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    paths[0].write_bytes(b"text")
    gate = Gate(monkeypatch)
    decoding = Decoding(paths, PREPARATION, blank(paths), range(42), threads=1)
    gate.permits.release(1)
    decoding.wait(np.array([41]), until_bad=True)
    assert list(decoding.bad) == [0]
    gate.permits.release(41)


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_an_error_that_stops_a_thread_is_raised_by_every_wait(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def prepare(data: bytes, preparation: Preparation, name: str) -> Pixels:
        raise failure

    monkeypatch.setattr(module, "prepare", prepare)
    decoding = Decoding(paths, PREPARATION, blank(paths), range(42))
    for _ in range(2):
        with pytest.raises(failure):
            decoding.wait()
    with pytest.raises(failure):
        list(stream(paths, PREPARATION, batch_size=4))


@pytest.mark.parametrize("batch_size", [1, 5, 42, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_stream_yields_the_pixels_of_a_store_in_order(paths: list[Path], batch_size: int, threads: int) -> None:
    paths[3].write_bytes(b"text")
    batches = list(stream(paths, PREPARATION, batch_size=batch_size, threads=threads))
    assert [len(pixels) for pixels, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), decoded(paths))
    outcomes = [outcome for _, outcomes in batches for outcome in outcomes]
    assert [outcome.error.code if outcome.error else None for outcome in outcomes] == [
        "undecodable_image" if index == 3 else None for index in range(42)
    ]
    assert [outcome.digest for outcome in outcomes] == list(file_digests(paths))


def test_a_stream_of_nothing_ends_at_once() -> None:
    assert list(stream([], PREPARATION, batch_size=4)) == []


def test_a_stream_is_one_batch_ahead_and_no_more(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def spy(target: Pixels, path: Path, preparation: Preparation) -> Outcome:
        seen.append(path)
        return Outcome(b"")

    monkeypatch.setattr(module, "prepare_into", spy)
    batches = stream(paths, PREPARATION, batch_size=7)
    next(batches)
    assert 7 <= len(seen) <= 14
    batches.close()  # type: ignore[attr-defined]
    assert len(seen) <= 14
