"""A run that is killed at any moment, any number of times, leaves the same bits as one that was not.

    make chaos                      1,000 kills, and 60 SIGTERMs
    make chaos KILLS=100            25 runs with four kills each, and 36 SIGTERMs: what CI does
    make chaos KILLS=250 FROM=63    runs 63 to 125, and 60 other SIGTERMs: a part of a longer series

The last line is a summary whose numbers can be added up over the parts of a series.

Every third run is cut into parts, and draws the number of its workers at every start; each signal goes to the process
that was started, which is their launcher, or to one of the workers. `make test-slow` includes a few of the runs.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.processes import wait_until
from support.real_command import EPOCHS, FLAGS, ORPHAN_SECONDS, PARTS, STEPS_PER_EPOCH, Job, Moment

KILLS = int(os.environ.get("CHAOS_KILLS", "100"))
FROM = int(os.environ.get("CHAOS_FROM", "0"))  # the number of the first run, which decides all that it draws
SIGNALS_PER_RUN = 4
RUNS_OF_SEVERAL_WORKERS = 5 if KILLS >= 250 else 2  # for each of both targets of SIGTERM
AT_ONCE = 2
WORKERS = (1, 2, 3)
KINDS = tuple(f"{flags}{parts}" for parts in ("", PARTS) for flags in FLAGS)
Target = int | None  # a worker by its rank; None is the process that was started


@dataclass(frozen=True)
class Undisturbed:
    """The digests of the runs without a signal by their flags, and the seconds that a start takes."""

    data: Path
    digests: dict[str, dict[str, str]]
    boot_seconds: float


@pytest.fixture(scope="module")
def undisturbed(module_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    jobs = [Job(folder / str(index), module_faces, flags) for index, flags in enumerate(KINDS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        boot_seconds = min(pool.map(Job.finish, jobs))
    described = [job.description() for job in jobs]
    assert all({"calibration", "unsure_thresholds"} <= record.keys() for record in described), "they are compared, too"
    assert any(record["calibration"]["temperature"] != 1 for record in described)
    return Undisturbed(module_faces, {job.flags: job.digests() for job in jobs}, boot_seconds)


@pytest.fixture(scope="module")
def summary() -> Iterator[Counter[str]]:
    """Count what the tests of this file do; the sums are printed after the last one."""
    counts: Counter[str] = Counter()
    yield counts
    found = " ".join(f"{name}={count};" for name, count in sorted(counts.items()))
    print(f"\nchaos: from={FROM}; {found}", flush=True)


def kill(numbers: Iterable[int], folder: Path, undisturbed: Undisturbed, summary: Counter[str]) -> None:
    """Kill each of these runs at four moments, let it finish, and compare."""

    def disturbed(number: int) -> tuple[list[tuple[str, int, Target]], bool]:
        draw = random.Random(number)
        several = number % 3 == 0
        job = Job(folder / f"run-{number}", undisturbed.data, FLAGS[number % len(FLAGS)] + PARTS * several)
        kinds = draw.choices(("boot", "step", "validation", "save"), k=SIGNALS_PER_RUN)
        if number % 5 == 0:
            kinds[-1] = "publish"
        kills = []
        for kind in kinds:
            target = draw_workers(job, draw) if several else None
            # The launcher imports torch before it starts workers, which import it again.
            boot_seconds = undisturbed.boot_seconds * (2 if job.workers > 1 and target is None else 1)
            code = job.hit(Moment.draw(kind, draw, boot_seconds), signal.SIGKILL, worker=target)
            kills.append((kind, job.workers, target))
            if target is None:
                assert code == -signal.SIGKILL
            else:
                assert code == 1, (number, kills)
                assert job.failure.startswith(f"TrainingError: worker {target} was killed (SIGKILL)"), job.failure
        if several:
            draw_workers(job, draw)
        job.finish()
        assert job.temporary_files() == []
        return kills, job.digests() == undisturbed.digests[job.flags]

    different = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, (kills, is_same) in zip(numbers, pool.map(disturbed, numbers), strict=True):
            bits = "the same bits" if is_same else "OTHER BITS"
            print(f"run {number}: killed at {'; '.join(describe(*kill) for kill in kills)}; {bits}", flush=True)
            different += [] if is_same else [number]
            count_kills(kills, summary)
            summary.update(runs=1, equal_runs=int(is_same))
    assert not different, "these runs did not leave the bits of the undisturbed ones"


def count_kills(kills: list[tuple[str, int, Target]], summary: Counter[str]) -> None:
    """Add kills to the summary: by moment, by the number of workers, and how many hit a single worker of several."""
    for kind, workers, target in kills:
        summary.update([f"kills_at_{kind}", f"kills_with_{workers}_worker{'s' * (workers > 1)}"])
        summary.update(kills=1, kills_of_a_single_worker=int(target is not None))


def draw_workers(job: Job, draw: random.Random) -> Target:
    """Draw how many workers the next start has, and which of them a signal hits: as often the launcher as a worker."""
    job.workers = draw.choice(WORKERS)
    return draw.randrange(job.workers) if job.workers > 1 and draw.random() < 0.5 else None


def describe(kind: str, workers: int, target: Target) -> str:
    if workers == 1:
        return kind
    return f"{kind} ({'launcher' if target is None else f'worker {target}'} of {workers})"


def terminate(
    numbers: Iterable[int],
    folder: Path,
    undisturbed: Undisturbed,
    summary: Counter[str],
    workers: int = 1,
    draw_target: Callable[[random.Random], Target] | None = None,
) -> None:
    """End each of these runs by SIGTERM at four moments, let it finish, and compare."""

    def disturbed(number: int) -> float:
        draw = random.Random(number)
        job = Job(folder / f"run-{number}", undisturbed.data, FLAGS[number % len(FLAGS)] + PARTS * (workers > 1))
        job.workers = workers
        for kind in ["step", *draw.choices(("step", "validation", "save"), k=SIGNALS_PER_RUN - 1)]:
            moment = Moment.draw(kind, draw, undisturbed.boot_seconds)
            target = draw_target(draw) if draw_target else None
            assert job.hit(moment, signal.SIGTERM, worker=target) == 0, job.log[-2000:]
            assert job.log.splitlines()[-1].startswith("stopped, and can be resumed")
            assert (job.folder / "model/model.json").exists()
        job.workers = 1
        job.finish()
        assert job.digests() == undisturbed.digests[job.flags]
        assert steps_taken(job) == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1)), "every step once, none lost"
        return max(job.seconds_to_end)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        longest = max(pool.map(disturbed, numbers))
    signals, to = len(list(numbers)) * SIGNALS_PER_RUN, "a_process_alone" if workers == 1 else "a_launcher"
    summary[f"sigterms_to_{'a_worker' if draw_target else to}"] += signals
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
def test_a_run_that_is_killed_at_any_moment_leaves_the_same_bits(
    undisturbed: Undisturbed, summary: Counter[str], tmp_path: Path
) -> None:
    kill(range(2), tmp_path, undisturbed, summary)


@pytest.mark.slow
def test_a_signal_to_a_worker_or_to_the_launcher_loses_no_step(
    undisturbed: Undisturbed, summary: Counter[str], tmp_path: Path
) -> None:
    terminate(range(1), tmp_path / "worker", undisturbed, summary, 2, lambda draw: draw.randrange(2))
    terminate(range(1, 2), tmp_path / "launcher", undisturbed, summary, 2)


@pytest.mark.slow
def test_every_worker_ends_with_a_launcher_that_is_killed(module_faces: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, module_faces, FLAGS[0] + PARTS)
    job.workers = 3
    with job.watched() as (process, happened):
        next(event for event in happened() if Moment("step").matches(event))
        assert len(job.processes()) > job.workers, "a launcher, its workers, and processes that decode"
        process.kill()
        wait_until(lambda: not job.processes(), ORPHAN_SECONDS)


def test_a_second_signal_ends_at_once(module_faces: Path, tmp_path: Path) -> None:
    job = Job(tmp_path, module_faces, FLAGS[0])
    # The process is stopped while both are sent, so it gets them together: SIGINT first, by its number.
    both = (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT)
    assert job.hit(Moment("step"), *both) == 128 + signal.SIGTERM
    assert "stopped, and can be resumed" not in job.log


@pytest.mark.chaos
def test_runs_that_are_killed_at_any_moment_leave_the_same_bits(
    undisturbed: Undisturbed, summary: Counter[str], tmp_path: Path
) -> None:
    kill(range(FROM, FROM + -(-KILLS // SIGNALS_PER_RUN)), tmp_path, undisturbed, summary)


@pytest.mark.chaos
def test_twenty_sigterms_lose_no_step(undisturbed: Undisturbed, summary: Counter[str], tmp_path: Path) -> None:
    terminate(range(FROM, FROM + 5), tmp_path, undisturbed, summary)


@pytest.mark.chaos
@pytest.mark.parametrize("target", ["launcher", "worker"])
def test_sigterms_to_a_launcher_or_a_worker_lose_no_step(
    target: str, undisturbed: Undisturbed, summary: Counter[str], tmp_path: Path
) -> None:
    one_of_two = (lambda draw: draw.randrange(2)) if target == "worker" else None
    terminate(range(FROM, FROM + RUNS_OF_SEVERAL_WORKERS), tmp_path, undisturbed, summary, 2, one_of_two)
