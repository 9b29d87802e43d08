"""A body becomes its own pixels or its own error, whatever other bodies do to the processes that decode them."""

import gzip
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.decode_board import IN_HAND, NEXT, NOTHING, DecodeLimits
from data.images import Preparation, prepare
from runtime.errors import DecodingError
from server import slot_pool
from server.lanes import Lane, choose_lanes
from server.slot_board import WAITING
from server.slot_pool import Decoding, NoSlotError, SlotPool
from support.confined import run_confined
from support.hostile_images import png
from support.processes import descendants, killing, wait_until
from support.serving import ROOT, encoded_image

PREPARATION = Preparation((16, 12))
LIMITS = DecodeLimits(cpu_seconds=0.3, seconds=30, memory_mb=512)
LANES = choose_lanes(2, 100, is_batch=False)
Start = Callable[..., SlotPool]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a pool, which is closed after the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # for the decoders of tests
    pools = []

    def start(slots: int = 40, lanes: object = LANES, decoder: str = "hostile_decoders:decode") -> SlotPool:
        pools.append(SlotPool(Decoding(PREPARATION, LIMITS, 8 << 20, f"support.{decoder}"), lanes, slots))  # type: ignore[arg-type]
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def submit(pool: SlotPool, body: bytes, *, is_gzipped: bool = False) -> int:
    slot = pool.reserve()
    pool.submit(slot, [body], is_gzipped=is_gzipped)
    return slot


def collect(pool: SlotPool, slots: list[int]) -> dict[int, object]:
    """Wait for slots; return the pixels or the code of the error of each, and release them."""
    found: dict[int, object] = {}
    ends = time.monotonic() + 60
    while len(found) < len(slots):
        assert time.monotonic() < ends, f"no result for {set(slots) - set(found)}"
        ready = pool.wait()
        for slot in ready:
            error = pool.error(slot)
            found[slot] = error.code if error else pool.pixels[slot].copy()
        pool.take(ready)
        pool.release(ready)
    return found


def outcome(pool: SlotPool, body: bytes, *, is_gzipped: bool = False) -> object:
    slot = submit(pool, body, is_gzipped=is_gzipped)
    return collect(pool, [slot])[slot]


def is_image(found: object, body: bytes) -> bool:
    return isinstance(found, np.ndarray) and np.array_equal(found, prepare(body, PREPARATION))


GOOD = [encoded_image(seed, kind) for seed in range(5) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
OUTCOMES = {
    b"burn": "too_expensive",
    b"memory": "too_expensive",
    b"kill": "too_expensive",
    b"crash": "undecodable_image",
    b"exit": "undecodable_image",
    b"leave": "undecodable_image",
    b"bug": "undecodable_image",
    b"text": "undecodable_image",
    b"": "empty",
}


@pytest.mark.parametrize("lanes", [LANES, choose_lanes(2, 100, is_batch=True)], ids=["endpoint", "batch transform"])
def test_an_image_that_does_not_behave_costs_itself(start: Start, lanes: object) -> None:
    pool = start(lanes=lanes)
    bodies = [*GOOD, *OUTCOMES]
    random.shuffle(bodies)
    slots = {submit(pool, body): body for body in bodies}
    for slot, found in collect(pool, list(slots)).items():
        body = slots[slot]
        assert found == OUTCOMES[body] if body in OUTCOMES else is_image(found, body)


def test_a_body_in_parts_and_a_compressed_one_are_the_same_image(start: Start) -> None:
    pool, body = start(), GOOD[1]
    slot = pool.reserve()
    pool.submit(slot, [bytearray([byte]) for byte in body], is_gzipped=False)
    assert is_image(collect(pool, [slot])[slot], body)
    assert is_image(outcome(pool, gzip.compress(body), is_gzipped=True), body)
    assert outcome(pool, body, is_gzipped=True) == "bad_gzip"
    assert outcome(pool, gzip.compress(bytes(9 << 20)), is_gzipped=True) == "payload_too_large"


def photo(size: tuple[int, int], kind: str, **options: object) -> bytes:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_photograph_of_12_megapixels_does_not_need_the_heavy_worker(start: Start, progressive: bool) -> None:
    body = photo((4000, 3000), "JPEG", quality=90, progressive=progressive)
    assert is_image(outcome(start(lanes=LANES[:2]), body), body)


def test_an_image_that_claims_more_than_a_lane_accepts_goes_to_the_first_that_does(start: Start) -> None:
    bodies = [png(1000, 1000, b""), png(6000, 5000, b"")]
    pool = start(decoder="hostile_decoders:admit_only")
    assert [isinstance(outcome(pool, body), str) for body in bodies] == [False, False]
    assert pool._board.seats[:, NEXT].tolist()[2:4] != [0, 0]
    assert pool._board.seats[4, NEXT] == 1, "only the larger one came to the heavy worker"


def test_a_large_file_of_a_small_image_is_not_read_among_the_ordinary_ones(start: Start) -> None:
    body = photo((400, 300), "PNG")
    padded = body + bytes(2 << 20)
    pool = start()
    assert is_image(outcome(pool, body), body)
    wait_until(lambda: (pool._board.seats[:, IN_HAND] == NOTHING).all())
    assert pool._board.seats[2:, NEXT].sum() == 0
    assert is_image(outcome(pool, padded), body)
    wait_until(lambda: (pool._board.seats[:, IN_HAND] == NOTHING).all())
    assert pool._board.seats[2:4, NEXT].sum() == 1


def test_a_full_lane_rejects_and_the_lane_before_it_still_works(start: Start) -> None:
    lanes = (*LANES[:2], replace(LANES[2], most_waiting=2))
    pool = start(lanes=lanes)
    slots = [submit(pool, b"burn") for _ in range(9)]
    codes = list(collect(pool, slots).values())
    assert set(codes) == {"overloaded", "too_expensive"}
    assert codes.count("too_expensive") >= 3
    assert is_image(outcome(pool, GOOD[0]), GOOD[0])


def test_workers_that_are_killed_leave_no_wrong_image(start: Start) -> None:
    pool = start()
    with killing(lambda: descendants(pool._template.pid)) as killed:
        for _ in range(15):
            slots = {submit(pool, body): body for body in GOOD}
            for slot, found in collect(pool, list(slots)).items():
                assert is_image(found, slots[slot])
    assert len(killed) > 5


def test_a_token_that_is_lost_is_written_again(start: Start) -> None:
    pool = start()
    tokens, pool._tokens = pool._tokens, os.open("/dev/null", os.O_WRONLY)
    slot = submit(pool, GOOD[0])
    os.close(pool._tokens)
    pool._tokens = tokens
    assert is_image(collect(pool, [slot])[slot], GOOD[0])


def test_a_slot_is_not_reused_while_a_process_has_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    pool = start(slots=2, decoder="hostile_decoders:decode_behind_gate")
    slot = submit(pool, GOOD[0])
    wait_until(lambda: slot in pool._board.seats[:, IN_HAND])
    pool.release([slot])
    other = pool.reserve()
    assert other != slot
    with pytest.raises(NoSlotError):
        pool.reserve()
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    wait_until(lambda: slot not in pool._board.seats[:, IN_HAND])
    assert pool.reserve() == slot
    os.close(gate)


def test_a_cancelled_image_is_not_decoded(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    pool = start(lanes=(Lane(1),), decoder="hostile_decoders:decode_behind_gate")
    slots = [submit(pool, body) for body in GOOD[:4]]
    wait_until((tmp_path / "log").exists)
    for slot in slots[1:3]:
        pool.cancel(slot)
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    found = collect(pool, slots)
    os.close(gate)
    assert is_image(found[slots[0]], GOOD[0])
    assert is_image(found[slots[3]], GOOD[3])
    assert (tmp_path / "log").read_text() == ".."


def test_the_memory_of_large_bodies_is_given_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_pool, "MOST_KEPT_BYTES", 0)
    pool, body = start(), encoded_image(1, "BMP", (1000, 1000))
    for _ in range(10):
        assert is_image(outcome(pool, body), body)
    wait_until(lambda: (pool._board.seats[:, IN_HAND] == NOTHING).all())
    pool.release([pool.reserve()])
    assert os.fstat(pool._bodies).st_blocks * 512 < 2 * len(body)


def test_the_memory_of_bodies_is_kept_only_up_to_a_limit(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    body = encoded_image(1, "BMP", (1000, 1000))
    monkeypatch.setattr(slot_pool, "MOST_KEPT_BYTES", 3 * len(body))
    pool = start()
    for _ in range(3):
        slots = [submit(pool, body) for _ in range(10)]
        assert all(is_image(found, body) for found in collect(pool, slots).values())
    wait_until(lambda: (pool._board.seats[:, IN_HAND] == NOTHING).all())
    pool.release([pool.reserve()])
    kept = os.fstat(pool._bodies).st_blocks * 512
    assert 2 * len(body) < kept < 3.1 * len(body)


def test_without_a_slot_and_after_the_close_bodies_are_rejected(start: Start) -> None:
    pool = start(slots=1)
    slot = pool.reserve()
    with pytest.raises(NoSlotError):
        pool.reserve()
    pool.close()
    pool.wake()
    with pytest.raises(NoSlotError):
        pool.submit(slot, [GOOD[0]], is_gzipped=False)
    assert pool._board.states[slot] != WAITING


def test_if_the_processes_are_gone_the_thread_of_the_model_is_told(
    start: Start, new_processes: Callable[[], list[int]]
) -> None:
    pool = start()
    assert is_image(outcome(pool, GOOD[0]), GOOD[0])
    pool._template.process.kill()
    pool._template.process.wait()
    with pytest.raises(DecodingError, match=r"^the decoding processes ended \(SIGKILL\); the machine may be out"):
        pool.wait()
    wait_until(lambda: new_processes() == [])


DECODE = """
import sys
sys.path[:0] = sys.argv[1:3]
from data.decode_board import DecodeLimits
from data.images import Preparation
from server.lanes import choose_lanes
from server.slot_pool import Decoding, SlotPool
pool = SlotPool(Decoding(Preparation((8, 8)), DecodeLimits(), 1 << 20), choose_lanes(2, 8, is_batch=False), 4)
slot = pool.reserve()
pool.submit(slot, [b"P6 1 1 255 abc"], is_gzipped=False)
while not pool.wait():
    pass
print(pool.error(slot), pool.pixels[slot, 0, 0].tolist(), end="")
"""


def test_the_processes_need_no_rights_no_network_and_no_place_to_write() -> None:
    done = run_confined(DECODE, str(ROOT / "code"), str(ROOT / "container"))
    assert (done.stdout, done.stderr) == ("None [97, 98, 99]", "")
