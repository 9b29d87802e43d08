"""The options that several commands of submit.py share, and where a job's files are. Nothing here talks to AWS.

Where files are under s3://BUCKET/PREFIX/:

    data/FOLDER-DIGEST/                     uploaded data
    checkpoints/JOB/                        of the training job, and of those that resume it
    training/JOB/output/model.tar.gz        the model; output.tar.gz beside it: report, metrics, split
    lite/JOB-DIGEST/model.tar.gz            the model of a job, exported for the lite image
    async/ENDPOINT/                         requests, responses and failures of an asynchronous endpoint
    transform/JOB/IMAGE.out                 one response for each image
    evaluation/JOB/evaluation.json          metrics of an evaluation
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.checks import bucket_problems, name_problems, prefix_problems, tag_problems
from runtime.arguments import folder as from_environment
from runtime.arguments import option
from sagemaker_limits import NAME_LENGTH

Words = Sequence[str]

HIGHEST_PRICE = 10**9  # of an instance hour, in any currency

_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/[\w+=,.@/-]+")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Profile and region."""

    profile: str | None = option(None, "profile of ~/.aws/config")
    region: str | None = from_environment("AWS_REGION", None, "region, such as ap-northeast-2; else the profile's")


@dataclass(frozen=True, kw_only=True)
class JobLocation:
    """Role, bucket and image of a job."""

    role: str | None = from_environment("SAGEMAKER_ROLE", None, "ARN of the role that the job assumes")
    bucket: str | None = from_environment("SAGEMAKER_BUCKET", None, "S3 bucket of data, checkpoints and results")
    prefix: str = option("mask-classifier", "folder in the bucket for all files")
    repository: str = option("mask-classifier", "ECR repository of the image")
    image: str | None = option(None, "image to run; default: the repository's image of this git commit")
    tags: str = option("", "name=value,... for everything that is created")

    def problems(self) -> list[str]:
        """Return a sentence for each missing or malformed option."""
        problems = []
        if self.role is None:
            problems.append("--role: required, the ARN of the role that the job assumes; `submit.py setup` creates one")
        elif not _ROLE.fullmatch(self.role):
            problems.append(f"--role: {self.role!r} is not of the form arn:aws:iam::123456789012:role/name")
        problems += bucket_problems(self.bucket)
        problems += prefix_problems(self.prefix)
        return problems + tag_problems(self.tags)

    @property
    def account(self) -> str:
        """Return the account of the role, which is the account of everything else."""
        match = _ROLE.fullmatch(self.role or "")
        assert match, "problems() has checked the role"
        return match[2]

    def uri(self, *parts: str) -> str:
        """Return s3://bucket/prefix/part/part, without a slash at the end."""
        return "/".join([f"s3://{self.bucket}", self.prefix, *parts])

    def checkpoints(self, job: str) -> str:
        """Return the S3 folder of a training job's checkpoints."""
        return self.uri("checkpoints", job) + "/"

    def model(self, model: str) -> str:
        """Return the URI of a training job's model, or `model` itself if that is a URI."""
        return model if model.startswith("s3://") else self.uri("training", model, "output", "model.tar.gz")

    def evaluation(self, evaluation: str) -> str:
        """Return the URI of an evaluation job's evaluation.json, or `evaluation` itself if that is a URI."""
        return evaluation if evaluation.startswith("s3://") else self.uri("evaluation", evaluation, "evaluation.json")


@dataclass(frozen=True, kw_only=True)
class SecureJobLocation(JobLocation):
    """Role, bucket and image of a job, encryption and network."""

    kms_key: str | None = option(None, "KMS key that encrypts volumes and results")
    subnets: str = option("", "subnets of the VPC to run in, comma separated")
    security_groups: str = option("", "security groups of the VPC to run in, comma separated")
    network_isolation: bool = option(True, "no network inside the container")

    def problems(self) -> list[str]:
        """Return a sentence for each missing or malformed option."""
        both = bool(self.subnets) == bool(self.security_groups)
        return super().problems() + ([] if both else ["--subnets and --security-groups: a VPC needs both"])


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Dry run."""

    dry_run: bool = option(False, "print the exact requests as JSON and send nothing")


@dataclass(frozen=True, kw_only=True)
class Polling:
    """Waiting."""

    poll_seconds: float = option(15.0, "seconds between two requests for the status", minimum=0, maximum=3600)


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(DryRun, Polling):
    """Dry run, cost and waiting."""

    price_per_hour: float | None = option(
        None, "price of an instance hour, to print the maximum cost", minimum=0, maximum=HIGHEST_PRICE
    )
    wait: bool = option(False, "wait until the job has ended, or the endpoint is in service")


@dataclass(frozen=True, kw_only=True)
class JobName:
    """The job or endpoint."""

    job: str = option("", "name of the job or endpoint; may come first, without the flag")

    def problems(self) -> list[str]:
        """Return a sentence if the name is missing, or one that no job can have."""
        if self.job:
            return name_problems(self.job, flag="job", most=NAME_LENGTH)
        return ["the name of a job is required, such as `submit.py status mask-classifier-261124-031500123`"]


SUBMIT = (Connection, SecureJobLocation, SubmitOptions)  # the options of every command that starts instances


def unique_name(name: str) -> str:
    """Return the name with the time in UTC, to the millisecond: SageMaker wants unique names within an account."""
    now = datetime.now(UTC)
    return f"{name}-{now:%y%m%d-%H%M%S}{now.microsecond // 1000:03}"
