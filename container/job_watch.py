"""Jobs and endpoints that exist: find one by its name, tell how it stands, wait for it, follow its log, stop it."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aws import Aws, AwsError
from errors import JobError

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
            raise JobFailed(f"{self.title} was stopped before its end ({how}); what it had finished can be downloaded")


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


def watch(aws: Aws, job: Job, poll_seconds: float, after_each_look: Callable[[], None] = lambda: None) -> Job:
    """Look again and again until the job is over; returns it as it ended. Ctrl-C leaves the job running.

    The line of its state goes to stderr whenever it changes. A network that is away for a while is waited for.
    """
    began, said = time.monotonic(), ""
    try:
        while True:
            if (line := job.line()) != said:
                print(f"{_clock(time.monotonic() - began)}  {line}", file=sys.stderr, flush=True)
            said = line
            after_each_look()
            if job.is_over:
                return job
            time.sleep(poll_seconds)
            job = _look_again(aws, job)
    except KeyboardInterrupt:
        print(f"{job.title} goes on; `submit.py stop {job.name}` ends it", file=sys.stderr)
        raise


def wait(aws: Aws, name: str, poll_seconds: float) -> Job:
    """Stay until a job is over and return it; raises JobFailed unless it ended well."""
    job = watch(aws, find(aws, name), poll_seconds)
    job.check_end()
    return job


def follow_log(aws: Aws, name: str, poll_seconds: float) -> Job:
    """Print a job's log from its beginning to its end, which is waited for; returns the job as it ended.

    Of an endpoint, which has no end, the log is printed as far as it goes. Raises JobError for a tuning job.
    """
    job = find(aws, name)
    if job.kind.log_group is None:
        best = job.facts.get("BestTrainingJob", {}).get("TrainingJobName", f"{name}-001-...")
        raise JobError(f"{job.title} has no log of its own, its training jobs have, such as: {best}")
    group, places = job.kind.log_group.format(name=name), dict[str, str]()
    prefix = "" if "{name}" in job.kind.log_group else f"{name}/"
    job = watch(aws, job, poll_seconds, lambda: _print_new(aws, group, prefix, places))
    time.sleep(poll_seconds)  # the last lines reach CloudWatch after the end
    _print_new(aws, group, prefix, places)
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


def _look_again(aws: Aws, job: Job) -> Job:
    try:
        return describe(aws, job.kind, job.name)
    except AwsError as error:
        if not error.is_passing:
            raise
        print(f"still waiting: {error}", file=sys.stderr, flush=True)
        return job


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def _print_new(aws: Aws, group: str, prefix: str, places: dict[str, str]) -> None:
    """Print what came since; `places` holds how far each stream was read. Of several hosts, each line says which."""
    try:
        request = {"logGroupName": group} | ({"logStreamNamePrefix": prefix} if prefix else {})
        streams = [
            stream["logStreamName"]
            for page in aws.pages("logs", "DescribeLogStreams", **request)
            for stream in page["logStreams"]
        ]
    except AwsError as error:
        if error.is_absent:  # the group is made with the account's first line
            return
        raise
    for stream in sorted(streams):
        host = stream.removeprefix(prefix).rsplit("-", 1)[0]
        for message in _events(aws, group, stream, places):
            print(f"[{host}] {message}" if len(streams) > 1 else message, flush=True)


def _events(aws: Aws, group: str, stream: str, places: dict[str, str]) -> Iterator[str]:
    """Messages since the last look, oldest first; CloudWatch repeats the token where a stream ends."""
    while True:
        request: dict[str, Any] = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        if stream in places:
            request["nextToken"] = places[stream]
        answer = aws.call("logs", "GetLogEvents", **request)
        for event in answer["events"]:
            yield event["message"]
        ended = places.get(stream) == answer["nextForwardToken"]
        places[stream] = answer["nextForwardToken"]
        if ended:
            return
