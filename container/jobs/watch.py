"""Jobs and endpoints that exist: find one by its name, tell how it stands, wait for it, stop it."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jobs.aws import Aws, AwsError
from jobs.progress_line import ProgressLine
from runtime.errors import JobError

_UNDER_WAY = ("InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_BAD = ("Failed", "OutOfService", "UpdateRollbackFailed")


class JobFailed(JobError):
    """A job ended, and not well; the sentence begins with its FailureReason."""


@dataclass(frozen=True)
class Kind:
    """A kind of job: how AWS calls it, how we do, and where its log is."""

    noun: str
    title: str
    log_group: str | None = None
    longest_name: int = 63


KINDS = (
    Kind("TrainingJob", "training job", "/aws/sagemaker/TrainingJobs"),
    Kind("TransformJob", "transform job", "/aws/sagemaker/TransformJobs"),
    Kind("ProcessingJob", "processing job", "/aws/sagemaker/ProcessingJobs"),
    Kind("HyperParameterTuningJob", "tuning job", longest_name=32),
    Kind("Endpoint", "endpoint", "/aws/sagemaker/Endpoints/{name}"),
)


@dataclass(frozen=True)
class Job:
    """One job as AWS describes it at one moment."""

    name: str
    kind: Kind
    facts: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.facts[f"{self.kind.noun}Status"])

    @property
    def is_over(self) -> bool:
        return self.status not in _UNDER_WAY

    @property
    def title(self) -> str:
        return f"{self.kind.title} {self.name!r}"

    def line(self) -> str:
        """Its state in one line: status, step, latest metrics."""
        steps = self.facts.get("SecondaryStatusTransitions") or [{}]
        step = ": ".join(steps[-1][name] for name in ("Status", "StatusMessage") if steps[-1].get(name))
        counters = self.facts.get("TrainingJobStatusCounters", {})
        numbers = {"jobs " + name: value for name, value in counters.items() if value}
        numbers |= {metric["MetricName"]: metric["Value"] for metric in self.facts.get("FinalMetricDataList", [])}
        best = self.facts.get("BestTrainingJob", {})
        if objective := best.get("FinalHyperParameterTuningJobObjectiveMetric"):
            numbers[f"best {objective['MetricName']}"] = objective["Value"]
        values = " ".join(f"{name}={value:.4g};" for name, value in numbers.items())
        return "  ".join(part for part in (self.status, step, values) if part)

    def check_end(self) -> None:
        """Raise JobFailed unless it ended well."""
        if self.status in _BAD:
            reason = str(self.facts.get("FailureReason") or self.facts.get("ExitMessage") or "no reason was given")
            log = "" if self.kind.log_group is None else f"; `submit.py logs {self.name}` shows what it printed"
            left = f"; `submit.py remove {self.name}` removes what is left" if self.kind.noun == "Endpoint" else ""
            raise JobFailed(f"{reason.strip()}; {self.title} failed{log}{left}")
        if self.status == "Stopped":
            how = self.facts.get("SecondaryStatus", "Stopped")
            what = "`submit.py download` fetches what it had"
            if self.kind.noun == "TrainingJob":
                what += f", `submit.py train --resume-from {self.name}` goes on from there"
            raise JobFailed(f"{self.title} was stopped before its end ({how}); {what}")


def find(aws: Aws, name: str) -> Job:
    """The job or endpoint of that name; raises JobError if there is none."""
    for kind in KINDS:
        if len(name) <= kind.longest_name:
            try:
                return describe(aws, kind, name)
            except AwsError as error:
                if not error.is_absent:
                    raise
    raise JobError(
        f"nothing is called {name!r} in {aws.region}; `aws sagemaker list-training-jobs` shows what there is"
    )


def describe(aws: Aws, kind: Kind, name: str) -> Job:
    """How a job of a known kind stands now."""
    return Job(name, kind, aws.call("sagemaker", f"Describe{kind.noun}", **{f"{kind.noun}Name": name}))


def watch(aws: Aws, job: Job, poll_seconds: float, new_lines: Callable[[], Iterable[str]] = tuple) -> Job:
    """Look again and again until the job is over; returns it as it ended. Ctrl-C leaves the job running.

    The line of its state goes to stderr whenever it changes, `new_lines` of its log go to stdout, and on a terminal a
    progress line stays below. A network that is away for a while is waited for.
    """
    progress = ProgressLine(job.facts.get("HyperParameters"))
    try:
        with progress:
            while True:
                progress.state(job.line(), job.facts.get("TrainingStartTime"))
                with _patience(progress):
                    for line in new_lines():
                        progress.log(line)
                if job.is_over:
                    return job
                time.sleep(poll_seconds)
                with _patience(progress):
                    job = describe(aws, job.kind, job.name)
    except KeyboardInterrupt:
        print(f"{job.title} goes on; `submit.py stop {job.name}` ends it", file=sys.stderr)
        raise


def wait(aws: Aws, name: str, poll_seconds: float) -> Job:
    """Stay until a job is over and return it; raises JobFailed unless it ended well."""
    job = watch(aws, find(aws, name), poll_seconds)
    job.check_end()
    return job


def stop(aws: Aws, name: str) -> Job:
    """Ask a job to stop: it saves a checkpoint and its best model, and has two minutes for it."""
    job = find(aws, name)
    if job.kind.noun == "Endpoint":
        raise JobError(f"an endpoint is not stopped but removed: `submit.py remove {name}`")
    if job.is_over:
        raise JobError(f"{job.title} is over already: {job.status}")
    aws.call("sagemaker", f"Stop{job.kind.noun}", **{f"{job.kind.noun}Name": name})
    return job


@contextlib.contextmanager
def _patience(progress: ProgressLine) -> Iterator[None]:
    """Let pass what will be over in a minute; the next look tries again."""
    try:
        yield
    except AwsError as error:
        if not error.is_passing:
            raise
        progress.say(f"still waiting: {error}")
