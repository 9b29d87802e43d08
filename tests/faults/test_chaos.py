"""A run that is killed at any moment, any number of times, leaves the same bits as one that was not.

    make chaos              1,000 kills
    make chaos KILLS=100    25 runs with four kills each, and 20 SIGTERMs: what CI does

`make test` includes two of the runs.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.real_command import EPOCHS, FLAGS, STEPS_PER_EPOCH, Job, Moment

KILLS = int(os.environ.get("CHAOS_KILLS", "100"))
KILLS_PER_RUN = 4
AT_ONCE = 2


@dataclass(frozen=True)
class Undisturbed:
    """The digests of the two runs without a signal, and the seconds that a start takes."""

    data: Path
    digests: list[dict[str, str]]
    boot_seconds: float


@pytest.fixture(scope="module")
def undisturbed(module_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    jobs = [Job(folder / str(index), module_faces, flags) for index, flags in enumerate(FLAGS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        boot_seconds = min(pool.map(Job.finish, jobs))
    return Undisturbed(module_faces, [job.digests() for job in jobs], boot_seconds)


def kill(numbers: Iterable[int], folder: Path, undisturbed: Undisturbed) -> None:
    """Kill each of these runs at four moments, let it finish, and compare."""

    def disturbed(number: int) -> list[str]:
        draw = random.Random(number)
        job = Job(folder / f"run-{number}", undisturbed.data, FLAGS[number % len(FLAGS)])
        kinds = draw.choices(("boot", "step", "validation", "save"), k=KILLS_PER_RUN)
        if number % 5 == 0:
            kinds[-1] = "publish"
        for kind in kinds:
            assert job.hit(Moment.draw(kind, draw, undisturbed.boot_seconds), signal.SIGKILL) == -signal.SIGKILL
        job.finish()
        assert job.digests() == undisturbed.digests[number % len(FLAGS)], f"run {number}, killed at {kinds}"
        assert job.temporary_files() == []
        return kinds

    moments: Counter[str] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, kinds in zip(numbers, pool.map(disturbed, numbers), strict=True):
            moments.update(kinds)
            print(f"run {number}: killed at {', '.join(kinds)}; the same bits", flush=True)
    print(f"{moments.total()} kills ({dict(moments)}), {len(list(numbers))} runs with the bits of the undisturbed ones")


def terminate(numbers: Iterable[int], folder: Path, undisturbed: Undisturbed) -> None:
    """End each of these runs by SIGTERM at four moments, let it finish, and compare."""

    def disturbed(number: int) -> float:
        draw = random.Random(number)
        job = Job(folder / f"run-{number}", undisturbed.data, FLAGS[number % len(FLAGS)])
        for kind in ["step", *draw.choices(("step", "validation", "save"), k=KILLS_PER_RUN - 1)]:
            assert job.hit(Moment.draw(kind, draw, undisturbed.boot_seconds), signal.SIGTERM) == 0
            assert job.log.splitlines()[-1].startswith("stopped, and can be resumed")
        job.finish()
        assert job.digests() == undisturbed.digests[number % len(FLAGS)]
        assert steps_taken(job) == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1)), "every step once, none lost"
        return max(job.seconds_to_end)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        longest = max(pool.map(disturbed, numbers))
    signals = len(list(numbers)) * KILLS_PER_RUN
    print(f"{signals} SIGTERMs: no step lost, the bits of the undisturbed ones, ended in at most {longest:.1f} s")


def steps_taken(job: Job) -> list[int]:
    """Return the steps in the TensorBoard events of all processes of the run."""
    steps = []
    for path in (job.folder / "output/data/exp/tensorboard").iterdir():
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        if "Train/loss" in events.Tags()["scalars"]:
            steps += [event.step for event in events.Scalars("Train/loss")]
    return sorted(steps)


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_leaves_the_same_bits(undisturbed: Undisturbed, tmp_path: Path) -> None:
    kill(range(2), tmp_path, undisturbed)


def test_a_second_signal_ends_at_once(module_faces: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, module_faces, FLAGS[0])
    # The process is stopped while both are sent, so it gets them together: SIGINT first, by its number.
    both = (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT)
    assert job.hit(Moment("step"), *both) == 128 + signal.SIGTERM
    assert "stopped, and can be resumed" not in job.log


@pytest.mark.chaos
def test_runs_that_are_killed_at_any_moment_leave_the_same_bits(undisturbed: Undisturbed, tmp_path: Path) -> None:
    kill(range(-(-KILLS // KILLS_PER_RUN)), tmp_path, undisturbed)


@pytest.mark.chaos
def test_twenty_sigterms_lose_no_step(undisturbed: Undisturbed, tmp_path: Path) -> None:
    terminate(range(5), tmp_path, undisturbed)
