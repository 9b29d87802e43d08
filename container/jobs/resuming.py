"""A training job that goes on from the checkpoints of another one: whether it may, before it costs anything."""

from collections.abc import Mapping

from config import MAY_DIFFER, TrainConfig
from jobs.aws import Aws, AwsError
from jobs.common import Place
from jobs.hyperparameters import as_text
from runtime.arguments import parse
from runtime.errors import ConfigError, JobError


def checkpoints_of(place: Place, job: str) -> str:
    """The S3 folder where a training job leaves its checkpoints."""
    return place.uri("checkpoints", job) + "/"


def check_resumable(aws: Aws, place: Place, job: str, hyperparameters: Mapping[str, str]) -> None:
    """Raise JobError unless a run with these hyperparameters may go on from the checkpoints of a training job."""
    _refuse_twins(aws, checkpoints_of(place, job))
    try:
        described = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=job)
    except AwsError as error:
        if error.is_absent:  # SageMaker forgets jobs, S3 keeps their checkpoints
            return
        raise
    if (theirs := described.get("CheckpointConfig", {}).get("S3Uri")) and theirs != checkpoints_of(place, job):
        raise JobError(f"{job!r} went on from another job itself; name that one: {theirs}")
    if hyperparameters.get("resume") != "force":
        _refuse_other_run(job, described.get("HyperParameters", {}), hyperparameters)


def _refuse_other_run(job: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    (defaults,) = parse("train.py", [], {}, TrainConfig)
    names = sorted(({*theirs, *ours} & set(vars(defaults))) - set(MAY_DIFFER))
    values = {name: [given.get(name, as_text(getattr(defaults, name))) for given in (theirs, ours)] for name in names}
    if different := [f"{name} was {old}, is {new}" for name, (old, new) in values.items() if old != new]:
        raise ConfigError(
            f"--resume-from {job}: it is another run ({', '.join(different)}); give the same hyperparameters, or start "
            "anew without --resume-from"
        )


def _refuse_twins(aws: Aws, checkpoints: str) -> None:
    """Raise JobError if a training job that still runs writes to this folder."""
    for status, what, remedy in (("InProgress", "runs", "stop"), ("Stopping", "saves", "wait")):
        for page in aws.pages("sagemaker", "ListTrainingJobs", StatusEquals=status):
            for summary in page["TrainingJobSummaries"]:
                name = summary["TrainingJobName"]
                described = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=name)
                if described.get("CheckpointConfig", {}).get("S3Uri") == checkpoints:
                    sentence = f"{name!r} still {what} and writes to the same checkpoints"
                    raise JobError(f"{sentence}; `submit.py {remedy} {name}` first")
