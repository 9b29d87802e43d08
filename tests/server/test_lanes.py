"""The budget of a lane follows what the header of an image claims, and never exceeds the limits of the server."""

import pytest

from data.decode_board import DecodeLimits
from server.lanes import Claim, choose_lanes

LIMITS = DecodeLimits()
ORDINARY, LARGE, HEAVY = choose_lanes(4, 128, is_batch=False)


@pytest.mark.parametrize(
    ("kind", "size", "lane"),
    [
        ("JPEG", (384, 512), ORDINARY),
        ("JPEG", (1920, 1080), LARGE),
        ("JPEG", (1600, 1200), ORDINARY),
        ("PNG", (512, 512), ORDINARY),
        ("WEBP", (1920, 1080), LARGE),
        ("JPEG", (4000, 3000), LARGE),
        ("PNG", (4000, 3000), LARGE),
        ("JPEG", (7000, 7000), HEAVY),
        ("PNG", (1, 50_000_000), HEAVY),
        (None, (4000, 4001), HEAVY),
    ],
)
def test_an_image_belongs_to_the_first_lane_that_accepts_its_claim(
    kind: str | None, size: tuple[int, int], lane: object
) -> None:
    claim = Claim.of(kind, size)
    assert next(each for each in (ORDINARY, LARGE, HEAVY) if each.accepts(claim)) is lane


def test_a_file_that_is_too_large_for_the_first_lane_belongs_to_the_second_whatever_its_header_says() -> None:
    assert ORDINARY.accepts(Claim.of("JPEG", (384, 512), 1 << 20))
    larger = Claim.of("JPEG", (384, 512), (1 << 20) + 1)
    assert [lane.accepts(larger) for lane in (ORDINARY, LARGE, HEAVY)] == [False, True, True]


def test_an_ordinary_image_may_cost_some_milliseconds_and_a_heavy_one_all_that_is_allowed() -> None:
    assert ORDINARY.budget(LIMITS, 50_000)[0] == 0.01
    most = Claim.of("JPEG", (2000, 1000))
    assert ORDINARY.accepts(most)
    assert ORDINARY.budget(LIMITS, 50_000, most)[0] == pytest.approx(0.05)
    assert LARGE.budget(LIMITS, 4_000_000, Claim.of("JPEG", (4000, 3000)))[0] == pytest.approx(0.29)
    assert HEAVY.budget(LIMITS, 6_000_000, Claim.of("PNG", (7000, 7000))) == (5.0, 1024 << 20)


def test_the_memory_follows_the_claim() -> None:
    small, large = (LARGE.budget(LIMITS, 1000, Claim.of("PNG", size))[1] for size in ((100, 100), (4000, 3000)))
    assert small < 65 << 20
    assert 12_000_000 * 16 < large < 300 << 20


def test_no_lane_exceeds_the_limits_of_the_server() -> None:
    tight = DecodeLimits(cpu_seconds=0.1, memory_mb=64)
    for lane in (ORDINARY, LARGE, HEAVY):
        seconds, memory = lane.budget(tight, 6_000_000, Claim.of("PNG", (4000, 4000)))
        assert seconds <= 0.1
        assert memory <= 64 << 20


def test_only_the_last_lane_is_without_a_bound_and_only_the_first_never_rejects() -> None:
    assert [lane.workers for lane in (ORDINARY, LARGE, HEAVY)] == [4, 4, 1]
    assert [lane.niceness for lane in (ORDINARY, LARGE, HEAVY)] == [0, 15, 19]
    assert ORDINARY.most_waiting > 128
    assert (LARGE.most_waiting, HEAVY.most_waiting) == (64, 8)
    assert choose_lanes(1, 1, is_batch=False)[1].most_waiting == 1


def test_a_batch_transform_job_has_one_lane_that_never_rejects() -> None:
    (lane,) = choose_lanes(3, 128, is_batch=True)
    assert (lane.workers, lane.niceness) == (3, 0)
    assert lane.most_waiting > 1000
    assert lane.accepts(Claim.of("PNG", (7000, 7000)))
    assert lane.budget(LIMITS, 10) == (5.0, 1024 << 20)
