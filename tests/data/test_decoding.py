"""A stream yields images in order, each prepared as anywhere else, and never holds more than a few batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data import decoding as module
from data.decode_pool import DecodePool
from data.decoding import stream
from data.digests import file_digests
from data.images import Preparation, prepare
from data.profiles import read_profiles

PREPARATION = Preparation((32, 24), (50, 40))


@pytest.fixture
def paths(faces: Callable[..., Path]) -> list[Path]:
    return read_profiles(faces(people=6)).paths


@pytest.mark.parametrize("batch_size", [1, 5, 42, 100])
@pytest.mark.parametrize("processes", [1, 3])
def test_a_stream_yields_the_pixels_and_digests_of_all_files_in_order(
    paths: list[Path], batch_size: int, processes: int
) -> None:
    expected = np.stack([prepare(path, PREPARATION) for path in paths])
    paths[3].write_bytes(b"text")
    paths[4].unlink()
    expected[3:5] = 0
    batches = list(stream(paths, PREPARATION, batch_size=batch_size, processes=processes))
    assert [len(pixels) for pixels, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), expected)
    outcomes = [outcome for _, outcomes in batches for outcome in outcomes]
    assert [outcome.error.code if outcome.error else None for outcome in outcomes] == [
        {3: "undecodable_image", 4: "missing"}.get(index) for index in range(42)
    ]
    assert [outcome.digest for outcome in outcomes] == list(file_digests(paths))


def test_a_stream_of_nothing_ends_at_once() -> None:
    assert list(stream([], PREPARATION, batch_size=4)) == []


def test_a_stream_is_two_batches_ahead_and_no_more(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, new_processes: Callable[[], list[int]]
) -> None:
    pools: list[DecodePool] = []

    class Spy(DecodePool):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            pools.append(self)

    monkeypatch.setattr(module, "DecodePool", Spy)
    batches = stream(paths, PREPARATION, batch_size=7)
    next(batches)
    assert 7 <= np.count_nonzero(pools[0]._board.states.copy()) <= 21
    batches.close()  # type: ignore[attr-defined]
    assert np.count_nonzero(pools[0]._board.states.copy()) <= 21
    assert new_processes() == []
