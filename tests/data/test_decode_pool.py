"""A hostile image costs itself and no other, whatever it does, and no process outlives the pool."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.decode_board import CURSOR, DecodeLimits
from data.decode_pool import DecodePool, SharedPixels
from data.digests import ImageDigests, as_array, file_digests
from data.images import Pixels, Preparation, prepare
from data.profiles import read_profiles
from runtime.errors import DecodingError, ImageError
from support.processes import Process, descendants, is_running, killing, wait_until

PREPARATION = Preparation((32, 24), (50, 40))
TESTS = Path(__file__).parents[1]
HOSTILE = "support.hostile_decoders:decode"
LIMITS = DecodeLimits(cpu_seconds=0.3, seconds=30, memory_mb=512)


@pytest.fixture
def paths(faces: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # for the decoders of tests
    return read_profiles(faces(people=6)).paths


@pytest.fixture
def start() -> Iterator[Callable[..., DecodePool]]:
    """Start a pool, which is closed after the test."""
    pools = []

    def start(paths: list[Path], slots: int | None = None, **options: object) -> DecodePool:
        target = SharedPixels.in_memory((slots or len(paths), 32, 24, 3))
        pools.append(DecodePool(paths, PREPARATION, target, **{"processes": 2} | options))  # type: ignore[arg-type]
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


Start = Callable[..., DecodePool]
Processes = Callable[[], list[int]]


def expected(paths: list[Path]) -> Pixels:
    return np.stack([prepare(path, PREPARATION) for path in paths])


def workers(pool: DecodePool) -> list[int]:
    return descendants(pool._template.pid)


@pytest.mark.parametrize("processes", [0, 1, 2, 5, 100])
def test_every_index_holds_its_own_file_with_any_number_of_processes(
    paths: list[Path], start: Start, processes: int
) -> None:
    digests = ImageDigests(paths)
    pool = start(paths, processes=processes, on_decoded=digests.record)
    pool.wait()
    assert np.array_equal(pool.pixels, expected(paths))
    assert np.array_equal(digests.known(), as_array(list(file_digests(paths))))
    assert pool.complete
    assert pool.bad == {}


def test_the_processes_end_after_the_last_image(paths: list[Path], start: Start, new_processes: Processes) -> None:
    pool = start(paths)
    pool.wait()
    assert new_processes() == []


COSTS = {
    "burn": ("too_expensive", r"^takes more than the 0\.3 s of CPU time allowed to decode: /"),
    "memory": ("too_expensive", r"^needs more than the 512 MiB of memory allowed to decode: /"),
    "kill": ("too_expensive", r"^needs so much memory to decode that the system ends the process: /"),
    "crash": ("undecodable_image", r"^crashes its decoder \(SIGSEGV\): /"),
    "abort": ("undecodable_image", r"^crashes its decoder \(SIGABRT\): /"),
    "exit": ("undecodable_image", r"^crashes its decoder \(exit code 3\): /"),
    "leave": ("undecodable_image", r"^crashes its decoder \(exit code 0\): /"),
    "bug": ("undecodable_image", r"^crashes its decoder \(exit code 1\): /"),
    "": ("empty", r"^an empty file is not an image: /"),
    "text": ("undecodable_image", r"^cannot be read as an image \(none of JPEG, .*\): /"),
}


def test_an_image_that_does_not_behave_costs_itself_and_is_black(paths: list[Path], start: Start) -> None:
    good, hostile = expected(paths), range(3, 3 + 2 * len(COSTS), 2)
    for index, content in zip(hostile, COSTS, strict=True):
        paths[index].write_bytes(content.encode())
    digests = ImageDigests(paths)
    pool = start(paths, limits=LIMITS, decoder=HOSTILE, on_decoded=digests.record)
    pool.pixels[:] = 99
    pool.wait()
    assert sorted(pool.bad) == list(hostile)
    for index, (code, sentence) in zip(hostile, COSTS.values(), strict=True):
        assert pool.bad[index].code == code
        assert re.search(sentence, str(pool.bad[index]))
        assert str(pool.bad[index]).endswith(str(paths[index]))
    assert not pool.pixels[hostile].any()
    others = np.setdiff1d(np.arange(42), hostile)
    assert np.array_equal(pool.pixels[others], good[others])
    assert np.array_equal(digests.known(), as_array(list(file_digests(paths)))), "also of those"


def test_a_decoder_that_hangs_costs_one_image(paths: list[Path], start: Start) -> None:
    paths[3].write_bytes(b"sleep")
    pool = start(paths, limits=DecodeLimits(seconds=1), decoder=HOSTILE)
    pool.wait()
    assert {index: str(error) for index, error in pool.bad.items()} == {
        3: f"takes more than the 1 s allowed to decode: {paths[3]}"
    }


def test_a_file_that_cannot_be_read_has_no_digest(paths: list[Path], start: Start) -> None:
    paths[3].unlink()
    digests = ImageDigests(paths)
    pool = start(paths, on_decoded=digests.record)
    pool.wait()
    assert {index: error.code for index, error in pool.bad.items()} == {3: "missing"}
    assert not digests.known()[3].any()


def test_an_image_that_is_left_out_is_bad_without_being_decoded(paths: list[Path], start: Start) -> None:
    paths[3].write_bytes(b"sleep")
    error = ImageError(f"took too long: {paths[3]}", "too_expensive")
    pool = start(paths, left_out={3: error}, decoder=HOSTILE)
    pool.wait()
    assert {index: (str(found), found.code) for index, found in pool.bad.items()} == {3: (str(error), error.code)}
    assert not pool.pixels[3].any()


def test_a_hundred_crashes_in_a_row_cost_a_hundred_images(paths: list[Path], start: Start) -> None:
    for path in paths[:30]:
        path.write_bytes(b"crash")
    pool = start(paths * 4, decoder=HOSTILE)
    pool.wait()
    assert len(pool.bad) == 4 * 30
    assert np.array_equal(pool.pixels[30:42], expected(paths[30:]))


def test_an_image_is_not_blamed_for_one_pause_of_the_machine(paths: list[Path], start: Start) -> None:
    paths[3].write_bytes(b"pause")
    pool = start(paths, limits=DecodeLimits(seconds=1), decoder=HOSTILE)
    pool.wait()
    assert pool.bad == {}
    assert (pool.pixels[3] == 7).all()


def test_workers_that_are_killed_from_outside_leave_no_bad_image(paths: list[Path], start: Start) -> None:
    pool = start(paths * 30)
    with killing(lambda: workers(pool)) as killed:
        pool.wait(np.arange(42 * 25))
    pool.wait()
    assert len(killed) > 5
    assert pool.bad == {}
    assert np.array_equal(pool.pixels, np.concatenate([expected(paths)] * 30))


def test_signals_to_the_group_are_for_the_parent_alone(
    paths: list[Path], start: Start, new_processes: Processes
) -> None:
    paths[0].write_bytes(b"pause")
    pool = start(paths, limits=DecodeLimits(seconds=2), decoder=HOSTILE)
    wait_until(lambda: len(workers(pool)) == 2)
    before = new_processes()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        for pid in before:
            os.kill(pid, number)
    time.sleep(0.2)
    assert new_processes()[0] == before[0]
    pool.wait()
    assert pool.bad == {}


def test_if_the_processes_are_gone_every_wait_says_so(
    paths: list[Path], start: Start, new_processes: Processes
) -> None:
    paths[41].write_bytes(b"sleep")
    pool = start(paths, decoder=HOSTILE)
    pool.wait(np.array([3]))
    pool._template.process.kill()
    for _ in range(2):
        with pytest.raises(DecodingError, match=r"^the decoding processes ended \(SIGKILL\); the machine may be out"):
            pool.wait()
    assert new_processes() == []


def test_processes_that_cannot_start_are_a_sentence(paths: list[Path], start: Start) -> None:
    pool = start(paths, limits=DecodeLimits(memory_mb=-(1 << 70)))
    with pytest.raises(DecodingError, match=r"^decoding processes end before they start \(exit code 1\); "):
        pool.wait()


def test_prioritized_images_are_decoded_first_and_in_the_given_order(
    paths: list[Path], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.decode_pool.CHUNK", 1)
    paths[0].write_bytes(b"pause")
    pool = start(paths, processes=1, limits=DecodeLimits(seconds=2), decoder=HOSTILE)
    wait_until(lambda: pool._board.header[CURSOR] == 1)
    pool.prioritize([30, 0, 20, 20, 10])
    assert pool._board.order[1:5].tolist() == [30, 20, 10, 1]
    assert sorted(pool._board.order) == list(range(42))
    pool.wait()
    assert np.array_equal(pool.pixels[1:], expected(paths[1:]))


def test_waiting_for_some_images_does_not_wait_for_the_others(paths: list[Path], start: Start) -> None:
    paths[41].write_bytes(b"sleep")
    pool = start(paths, decoder=HOSTILE)
    pool.wait(np.array([2, 7]))
    assert np.array_equal(pool.pixels[7], prepare(paths[7], PREPARATION))
    assert not pool.complete


def test_a_bad_image_ends_a_wait_until_there_is_one(paths: list[Path], start: Start) -> None:
    paths[0].write_bytes(b"text")
    paths[1].write_bytes(b"sleep")
    pool = start(paths, processes=1, decoder=HOSTILE)
    pool.wait(np.array([41]), until=lambda: bool(pool.bad))
    assert list(pool.bad) == [0]


def test_several_threads_may_wait(paths: list[Path], start: Start) -> None:
    paths[41].write_bytes(b"pause")
    pool = start(paths, limits=DecodeLimits(seconds=3), decoder=HOSTILE)
    threads = [threading.Thread(target=pool.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    pool.wait(np.array([5]))
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_ring_never_overwrites_an_image_before_it_is_released(paths: list[Path], start: Start) -> None:
    paths, found = paths * 3, []
    pool = start(paths, slots=10)
    for index in range(len(paths)):
        pool.wait(np.array([index]))
        time.sleep(0.002 * (index % 20 == 0))  # the processes have time to do too much
        found.append(pool.pixels[index % 10].copy())
        pool.release(index + 1)
    assert np.array_equal(np.stack(found), expected(paths))


def test_closing_drops_what_is_left_and_leaves_no_process(
    paths: list[Path], start: Start, new_processes: Processes
) -> None:
    paths[0].write_bytes(b"sleep")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    pool = start(paths, decoder=HOSTILE)
    wait_until(lambda: len(workers(pool)) == 2)
    pool.close()
    assert new_processes() == []
    assert len(os.listdir("/proc/self/fd")) <= before + 2, "two mappings"  # noqa: PTH208


PARENT = """# PARENT
import os, sys, time
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from data.decode_pool import DecodePool, SharedPixels
from data.images import Preparation
paths = [Path(name) for name in sys.argv[3:]]
pool = DecodePool(paths, Preparation((8, 8)), SharedPixels.in_memory((len(paths), 8, 8, 3)), processes=2,
                  decoder="support.hostile_decoders:decode")
os.fork() or time.sleep(60)  # as the worker of a DataLoader, which inherits the socket
print(flush=True)
pool.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_if_the_parent_is_killed_all_processes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"burn")
    command = [sys.executable, "-c", PARENT, str(TESTS.parent / "code"), str(TESTS), *map(str, tmp_path.iterdir())]
    with Process(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        wait_until(lambda: len(descendants(parent.pid)) == 4)  # a child, the template and two workers
        others = descendants(parent.pid)
        parent.send_signal(number)
        parent.wait()
        child = next(pid for pid in others if b"PARENT" in Path(f"/proc/{pid}/cmdline").read_bytes())
        wait_until(lambda: {pid for pid in others if is_running(pid)} == {child})
        os.kill(child, signal.SIGKILL)
