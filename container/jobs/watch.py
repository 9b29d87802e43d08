"""`submit.py wait`: watch a job to its end, with its state, its log, and a progress line at the bottom of a terminal.

40%|████      | 12/30 [0:04:10<0:06:15, val_loss=0.512; val_f1=0.8125;]
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Self

from tqdm import tqdm

from config import TrainConfig
from jobs.aws import Aws, AwsError, passing_errors
from jobs.common import Connection, JobName, Polling
from jobs.job import Job, JobFailed, describe, find_all
from metrics import METRICS

_EPOCH, *_VALUES = (
    re.compile(metric.definition()["Regex"]) for metric in METRICS if metric.name in ("epoch", "val_loss", "val_f1")
)
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_CLOCK = "{elapsed}  {desc}"


def wait(aws: Aws, name: str, poll_seconds: float) -> list[Job]:
    """Wait until a job, or each fold of a cross-validation, has ended; return these jobs.

    Raises JobFailed with the reasons of those that failed or were stopped, once all have ended.
    """
    jobs = find_to_watch(aws, name)
    if len(jobs) > 1:
        return _wait_for_folds(aws, name, jobs, poll_seconds)
    job = watch(aws, jobs[0], poll_seconds)
    job.check_end()
    return [job]


def _wait_for_folds(aws: Aws, name: str, jobs: Sequence[Job], poll_seconds: float) -> list[Job]:
    """Wait for one after the other; whatever ends the waiting, the user is reminded of all."""
    reminder = f"other folds may be running, too; `submit.py stop {name}` stops all, `submit.py wait {name}` waits"
    ended, reasons = [], []
    try:
        for job in jobs:
            print(f"{job.title}:", file=sys.stderr)
            ended.append(watch(aws, describe(aws, job.kind, job.name), poll_seconds))
            try:
                ended[-1].check_end()
            except JobFailed as error:
                reasons.append(str(error))
    except AwsError as error:
        raise AwsError(f"{error}; {reminder}", error.code, error.status) from error
    except (KeyboardInterrupt, SystemExit):
        print(reminder, file=sys.stderr)
        raise
    if reasons:
        raise JobFailed("; ".join(reasons))
    return ended


def find_to_watch(aws: Aws, name: str) -> list[Job]:
    """Return what `find_all` does; an error of AWS says that it may be running, and what to do then."""
    try:
        return find_all(aws, name)
    except AwsError as error:
        raise AwsError(
            f"{error}; {name!r} may be running, which costs: `submit.py wait {name}` watches it, "
            f"`submit.py stop {name}` stops it",
            error.code,
            error.status,
        ) from error


def wait_command(connection: Connection, name: JobName, polling: Polling) -> None:
    """Wait for a job, or for all folds of a cross-validation, and print the last state."""
    jobs = wait(Aws(connection), name.job, polling.poll_seconds)
    for job in jobs:
        print(f"{job.title}  {job.line()}" if len(jobs) > 1 else job.line())


def watch(aws: Aws, job: Job, poll_seconds: float, new_lines: Callable[[], Iterable[str]] = tuple) -> Job:
    """Poll until the job has ended, and return its last state. Ctrl-C leaves the job running.

    Each change of its state goes to stderr, `new_lines` of its log go to stdout. Errors that pass, such as a network
    that is down, are reported and tried again. Whatever else ends the watching, the user is reminded of the job.
    """
    progress = ProgressLine(job.facts.get("HyperParameters"))

    def still_waiting(error: AwsError) -> None:
        progress.say(f"still waiting: {error}; {job.reminder}")

    try:
        with progress:
            while True:
                progress.state(job.line(), job.facts.get("TrainingStartTime"))
                with passing_errors(still_waiting):
                    for line in new_lines():
                        progress.log(line)
                if job.is_over:
                    return job
                time.sleep(poll_seconds)
                with passing_errors(still_waiting):
                    job = describe(aws, job.kind, job.name)
    except AwsError as error:
        if job.is_over:
            raise
        if error.is_absent:
            gone = f"{job.title} was deleted while this command waited for it"
            raise AwsError(gone, error.code, error.status) from error
        raise AwsError(f"{error}; {job.reminder}", error.code, error.status) from error
    except (KeyboardInterrupt, SystemExit):
        print(job.reminder, file=sys.stderr)
        raise


class ProgressLine:
    """The epochs of a training job as a bar, a clock and the state of any other job; only on a terminal."""

    def __init__(self, hyperparameters: Mapping[str, str] | None) -> None:
        """Start the line; `hyperparameters` are those of a training job, None for any other."""
        self._began, self._state = time.monotonic(), ""
        epochs = None if hyperparameters is None else _epochs(hyperparameters)
        form = _BAR if epochs else _CLOCK
        self._bar = tqdm(total=epochs, bar_format=form, disable=None, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.close()

    def state(self, line: str, started: datetime | None = None) -> None:
        """Print the state of the job if it has changed; `started` is the start of training."""
        if line != self._state:
            self.say(line)
        self._state = line
        if started:
            self._bar.start_t = started.timestamp()
        if self._bar.total is None:
            self._bar.set_description_str(line, refresh=False)
        self._read(line)

    def say(self, line: str) -> None:
        """Print a line of ours to stderr, with the time since watching began."""
        seconds = int(time.monotonic() - self._began)
        tqdm.write(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}  {line}", sys.stderr)
        sys.stderr.flush()

    def log(self, line: str) -> None:
        """Print a line of the job's log to stdout."""
        tqdm.write(line, sys.stdout)
        sys.stdout.flush()
        self._read(line)

    def _read(self, line: str) -> None:
        """Take the epoch and the newest values from a line, if it has them."""
        if self._bar.disable:
            return
        if match := _EPOCH.search(line):
            self._bar.n = int(float(match[1]))
            self._bar.set_postfix_str(" ".join(value[0] for regex in _VALUES if (value := regex.search(line))), False)
        self._bar.refresh()


def _epochs(hyperparameters: Mapping[str, str]) -> int | None:
    """Return the number of epochs, None for a job that is not of this project."""
    text = hyperparameters.get("epochs", str(TrainConfig.epochs)).strip('"')
    return int(text) if text.isdigit() else None
