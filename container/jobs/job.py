"""Jobs and endpoints that exist: find one by its name, describe its state, stop it.

The folds of a cross-validation are training jobs, and its name is what their names begin with. A fold that failed or
was stopped may be resumed by a job of any name, which has the checkpoints of the fold.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.aws import Aws, AwsError
from jobs.common import Connection, JobName
from jobs.resuming import checkpoints, fold_of, resume_command
from runtime.errors import JobError
from sagemaker_limits import NAME_LENGTH, TUNING_NAME_LENGTH

_UNDER_WAY = ("InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_MANY = 50  # descriptions of jobs, which take seconds
_BAD = ("Failed", "OutOfService", "UpdateRollbackFailed")


class JobFailed(JobError):
    """A job that did not complete; the sentence begins with its FailureReason."""


@dataclass(frozen=True)
class Kind:
    """A kind of job: its name in AWS's operations, its name in sentences, and its log."""

    noun: str
    title: str
    log_group: str | None = None
    longest_name: int = NAME_LENGTH


TRAINING = Kind("TrainingJob", "training job", "/aws/sagemaker/TrainingJobs")
KINDS = (
    TRAINING,
    Kind("TransformJob", "transform job", "/aws/sagemaker/TransformJobs"),
    Kind("ProcessingJob", "processing job", "/aws/sagemaker/ProcessingJobs"),
    Kind("HyperParameterTuningJob", "tuning job", longest_name=TUNING_NAME_LENGTH),
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

    @property
    def best_training_job(self) -> str | None:
        """Return the name of a tuning job's best training job, None if there is none yet."""
        name: str | None = self.facts.get("BestTrainingJob", {}).get("TrainingJobName")
        return name

    @property
    def resume_command(self) -> str:
        """Return the command that resumes a training job, empty for other jobs and for those without checkpoints."""
        return resume_command(self.facts) if self.kind is TRAINING else ""

    @property
    def reminder(self) -> str:
        """Return a sentence for when nobody watches a job that is not over: it costs, and these commands help."""
        remove = self.kind.noun == "Endpoint"
        end = f"`submit.py remove {self.name}` removes it" if remove else f"`submit.py stop {self.name}` stops it"
        return f"{self.title} is still running; {end}, `submit.py wait {self.name}` watches it; it costs until its end"

    def line(self) -> str:
        """Return the state in one line: status, step, latest metrics."""
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
        """Raise JobFailed if the job failed or was stopped."""
        if self.status in _BAD:
            reason = str(self.facts.get("FailureReason") or self.facts.get("ExitMessage") or "no reason given")
            log = "" if self.kind.log_group is None else f"; `submit.py logs {self.name}` prints its log"
            rest = f"; `submit.py remove {self.name}` removes what remains" if self.kind.noun == "Endpoint" else ""
            if resume := self.resume_command:
                rest = f"; `{resume}` resumes it"
            raise JobFailed(f"{reason.strip()}; {self.title} failed{log}{rest}")
        if self.status == "Stopped":
            how = self.facts.get("SecondaryStatus", "Stopped")
            what = "`submit.py download` fetches its files"
            if resume := self.resume_command:
                what += f", `{resume}` resumes it"
            raise JobFailed(f"{self.title} was stopped before its end ({how}); {what}")


def find(aws: Aws, name: str) -> Job:
    """Return the job or endpoint of that name; raise JobError if there is none."""
    if job := look_up(aws, name):
        return job
    raise _no_job(aws, name)


def find_all(aws: Aws, name: str) -> list[Job]:
    """Return the job or endpoint of that name, or the jobs of the folds of the cross-validation of that name.

    A fold without a job is named on stderr. Raises JobError if there is none.
    """
    if job := look_up(aws, name):
        return [job]
    folds = find_folds(aws, name)
    if not folds:
        raise _no_job(aws, name)
    for number, job in folds.items():
        if job is None:
            print(no_fold(name, number, len(folds)), file=sys.stderr)
    return [job for job in folds.values() if job]


def no_fold(name: str, number: int, folds: int) -> str:
    """Return the sentence about a fold whose job was never started, and how to train it."""
    return (
        f"fold {number} of {name!r} has no training job; start it with `submit.py train` and -- --fold "
        f"{number}/{folds}, and pass --fold-jobs {number}=JOB to `submit.py download`"
    )


def _no_job(aws: Aws, name: str) -> JobError:
    return JobError(
        f"no job or endpoint is called {name!r} in {aws.region}; `aws sagemaker list-training-jobs` lists the jobs"
    )


def fold_name(name: str, number: int) -> str:
    """Return the name of the training job of a fold, which is counted from 1."""
    return f"{name}-fold-{number}"


def find_folds(aws: Aws, name: str) -> dict[int, Job | None]:
    """Return the job of each fold of the cross-validation of that name by its number, None where it has none.

    The dict is empty if there is no such cross-validation. In the place of a fold that did not complete is the job that
    resumed it: the newest one that did, else the newest.
    """
    numbers = range(1, count_folds(aws, name) + 1)
    folds = {number: look_up(aws, fold_name(name, number), (TRAINING,)) for number in numbers}
    resumed = _find_resumed(aws, [job for job in folds.values() if job and job.is_over and job.status != "Completed"])
    return {number: resumed.get(job.name, job) if job else None for number, job in folds.items()}


def _find_resumed(aws: Aws, jobs: Sequence[Job]) -> dict[str, Job]:
    """Return the job that resumed each of these by the name of the latter, as far as there is one."""
    wanted = {(checkpoints(job.facts), fold_of(job.facts)): job.name for job in jobs if checkpoints(job.facts)}
    if not wanted:
        return {}
    since = min(job.facts["CreationTime"] for job in jobs)
    pages = aws.pages("sagemaker", "ListTrainingJobs", CreationTimeAfter=since)
    listed = [each for page in pages for each in page["TrainingJobSummaries"]]
    later = [each for each in listed if each["TrainingJobName"] not in wanted.values()]
    later.sort(key=lambda each: (each["TrainingJobStatus"] == "Completed", each["CreationTime"]), reverse=True)
    if len(later) > _MANY:
        names = ", ".join(wanted.values())
        print(f"looking through {len(later)} training jobs for those that resumed {names}", file=sys.stderr)
    found: dict[str, Job] = {}
    for summary in later:
        job = describe(aws, TRAINING, summary["TrainingJobName"])
        if original := wanted.pop((checkpoints(job.facts), fold_of(job.facts)), ""):
            found[original] = job
        if not wanted:
            break
    return found


def count_folds(aws: Aws, name: str) -> int:
    """Return the number of folds of the cross-validation of that name, 0 if there is none."""
    first = fold_name(name, 1)
    described = (
        aws.find("sagemaker", "DescribeTrainingJob", TrainingJobName=first) if len(first) <= NAME_LENGTH else None
    )
    count = fold_of(described or {}).partition("/")[2]
    return int(count) if count.isdecimal() else 0


def look_up(aws: Aws, name: str, kinds: Sequence[Kind] = KINDS) -> Job | None:
    """Return the job or endpoint of that name, or None if there is none."""
    for kind in kinds:
        if len(name) <= kind.longest_name:
            facts = aws.find("sagemaker", f"Describe{kind.noun}", **{f"{kind.noun}Name": name})
            if facts is not None:
                return Job(name, kind, facts)
    return None


def describe(aws: Aws, kind: Kind, name: str) -> Job:
    """Return a job of a known kind in its current state; raise AwsError if there is none."""
    return Job(name, kind, aws.call("sagemaker", f"Describe{kind.noun}", **{f"{kind.noun}Name": name}))


def stop(aws: Aws, name: str) -> list[Job]:
    """Ask a job to stop, or all folds of a cross-validation that have not ended; return them.

    Training saves a checkpoint and the model first, and has two minutes for it. Raises JobError if there is
    nothing to stop, and AwsError for folds that could not be stopped, after the others were.
    """
    jobs = find_all(aws, name)
    if jobs[0].kind.noun == "Endpoint":
        raise JobError(f"an endpoint is removed, not stopped: `submit.py remove {name}`")
    if not (running := [job for job in jobs if not job.is_over]):
        ended = "; ".join(f"{job.title} has already ended: {job.status}" for job in jobs)
        raise JobError(ended)
    errors = []
    for job in running:
        if job.status == "Stopping":  # which SageMaker would reject
            continue
        try:
            aws.call("sagemaker", f"Stop{job.kind.noun}", **{f"{job.kind.noun}Name": job.name})
        except AwsError as error:
            errors.append(error)
    if errors:
        raise AwsError("; ".join(map(str, errors)), errors[0].code, errors[0].status)
    return running


def stop_command(connection: Connection, name: JobName) -> None:
    """Ask a job to stop, or all folds of a cross-validation."""
    for job in stop(Aws(connection), name.job):
        print(f"{job.title} is stopping; `submit.py wait {job.name}` waits for its end")
