"""A run that is killed at any moment, any number of times, leaves the same bits as one that was not.

    make chaos              1,000 kills, and 60 SIGTERMs
    make chaos KILLS=100    25 runs with four kills each, and 36 SIGTERMs: what CI does

Every third run is cut into parts, and draws the number of its workers at every start; each signal goes to the process
that was started, which is their launcher, or to one of the workers. `make test-slow` includes a few of the runs.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.processes import wait_until
from support.real_command import EPOCHS, FLAGS, ORPHAN_SECONDS, PARTS, STEPS_PER_EPOCH, Job, Moment

KILLS = int(os.environ.get("CHAOS_KILLS", "100"))
SIGNALS_PER_RUN = 4
RUNS_OF_SEVERAL_WORKERS = 5 if KILLS >= 1000 else 2  # for each of both targets of SIGTERM
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
    return Undisturbed(module_faces, {job.flags: job.digests() for job in jobs}, boot_seconds)


def kill(numbers: Iterable[int], folder: Path, undisturbed: Undisturbed) -> None:
    """Kill each of these runs at four moments, let it finish, and compare."""

    def disturbed(number: int) -> list[tuple[str, int, Target]]:
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
        assert job.digests() == undisturbed.digests[job.flags], f"run {number}, killed at {kills}"
        assert job.temporary_files() == []
        return kills

    found = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, kills in zip(numbers, pool.map(disturbed, numbers), strict=True):
            found += kills
            print(f"run {number}: killed at {'; '.join(describe(*kill) for kill in kills)}; the same bits", flush=True)
    moments, sizes = Counter(kind for kind, _, _ in found), Counter(workers for _, workers, _ in found)
    single = sum(target is not None for _, _, target in found)
    print(
        f"{len(found)} kills ({dict(moments)}) of {len(list(numbers))} runs, which left the bits of the undisturbed "
        f"ones; by the number of workers: {dict(sorted(sizes.items()))}; of a single worker: {single}"
    )


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
    workers: int = 1,
    draw_target: Callable[[random.Random], Target] = lambda draw: None,
) -> None:
    """End each of these runs by SIGTERM at four moments, let it finish, and compare."""

    def disturbed(number: int) -> float:
        draw = random.Random(number)
        job = Job(folder / f"run-{number}", undisturbed.data, FLAGS[number % len(FLAGS)] + PARTS * (workers > 1))
        job.workers = workers
        for kind in ["step", *draw.choices(("step", "validation", "save"), k=SIGNALS_PER_RUN - 1)]:
            moment, target = Moment.draw(kind, draw, undisturbed.boot_seconds), draw_target(draw)
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
    signals = len(list(numbers)) * SIGNALS_PER_RUN
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


@pytest.mark.slow
def test_a_signal_to_a_worker_or_to_the_launcher_loses_no_step(undisturbed: Undisturbed, tmp_path: Path) -> None:
    terminate(range(1), tmp_path / "worker", undisturbed, 2, lambda draw: draw.randrange(2))
    terminate(range(1, 2), tmp_path / "launcher", undisturbed, 2)


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
def test_runs_that_are_killed_at_any_moment_leave_the_same_bits(undisturbed: Undisturbed, tmp_path: Path) -> None:
    kill(range(-(-KILLS // SIGNALS_PER_RUN)), tmp_path, undisturbed)


@pytest.mark.chaos
def test_twenty_sigterms_lose_no_step(undisturbed: Undisturbed, tmp_path: Path) -> None:
    terminate(range(5), tmp_path, undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize("target", ["launcher", "worker"])
def test_sigterms_to_a_launcher_or_a_worker_lose_no_step(target: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    one_of_two = (lambda draw: draw.randrange(2)) if target == "worker" else (lambda draw: None)
    terminate(range(RUNS_OF_SEVERAL_WORKERS), tmp_path, undisturbed, 2, one_of_two)
