"""The flags of submit.py about the account, the place of the files, and jobs that exist. Nothing here talks to AWS."""

import re
from dataclasses import dataclass
from pathlib import Path

from jobs.checks import bucket_problems, is_s3_folder, pair_problems, prefix_problems
from runtime.arguments import folder as from_environment
from runtime.arguments import option

_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/[\w+=,.@/-]+")

_KEY = re.compile(r"arn:aws[a-z-]*:kms:[\w-]+:\d{12}:key/[\w-]+")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Who asks, and where."""

    profile: str | None = option(None, "profile of ~/.aws/config")
    region: str | None = from_environment("AWS_REGION", None, "region, such as ap-northeast-2; else the profile's")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where files and images lie."""

    role: str | None = from_environment("SAGEMAKER_ROLE", None, "ARN of the role that the job takes on")
    bucket: str | None = from_environment("SAGEMAKER_BUCKET", None, "S3 bucket of data, checkpoints and results")
    prefix: str = option("mask-classifier", "folder in the bucket under which everything lies")
    repository: str = option("mask-classifier", "ECR repository of the image")
    image: str | None = option(None, "image to run; default: the repository's image of this git commit")
    tags: str = option("", "name=value,... for everything that is created")

    def problems(self) -> list[str]:
        """What is missing or malformed, one sentence each."""
        problems = []
        if self.role is None:
            problems.append("--role: needed, the ARN of the role that the job takes on; `submit.py setup` makes one")
        elif not _ROLE.fullmatch(self.role):
            problems.append(f"--role: {self.role!r} is not of the form arn:aws:iam::123456789012:role/name")
        problems += bucket_problems(self.bucket)
        problems += prefix_problems(self.prefix)
        return problems + pair_problems("tags", self.tags)

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn` or `aws-us-gov`, as the role says."""
        return self._role_match[1]

    @property
    def account(self) -> str:
        """The account of the role, which is the account of everything else."""
        return self._role_match[2]

    @property
    def _role_match(self) -> re.Match[str]:
        match = _ROLE.fullmatch(self.role or "")
        assert match, "problems() has checked the role"
        return match

    def uri(self, *parts: str) -> str:
        """s3://bucket/prefix/part/part, without a slash at the end."""
        return "/".join([f"s3://{self.bucket}", self.prefix, *parts])


@dataclass(frozen=True, kw_only=True)
class JobPlace(Place):
    """Where files and images lie, and what the job may touch."""

    kms_key: str | None = option(None, "KMS key that encrypts volumes and results")
    subnets: str = option("", "run in a VPC: its subnets, comma separated")
    security_groups: str = option("", "run in a VPC: the security groups, comma separated")
    network_isolation: bool = option(True, "no network inside the container")

    def problems(self) -> list[str]:
        """What is missing or malformed, one sentence each."""
        both = bool(self.subnets) == bool(self.security_groups)
        return super().problems() + ([] if both else ["--subnets and --security-groups: a VPC needs both"])


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Dry run."""

    dry_run: bool = option(False, "print the exact requests as JSON, send nothing")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Cost and waiting."""

    price_per_hour: float | None = option(None, "price of one machine hour, to be told what it can cost", minimum=0)
    wait: bool = option(False, "stay until it has ended, or an endpoint is up")
    poll_seconds: float = option(15.0, "seconds between two questions to AWS", minimum=0)


@dataclass(frozen=True, kw_only=True)
class Push:
    """The image, from this machine to ECR."""

    local_image: str = option("mask-classifier", "image as Docker knows it here")
    repository: str = option("mask-classifier", "ECR repository; made if it is absent")
    tag: str | None = option(None, "tag in the repository; default: the git commit")
    kms_key: str | None = option(None, "KMS key that encrypts a new repository")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The bucket, the role and the policy, once per account."""

    account: str | None = option(None, "account number; default: ask AWS")
    bucket: str | None = from_environment("SAGEMAKER_BUCKET", None, "S3 bucket; made if it is absent")
    role_name: str = option("mask-classifier-sagemaker", "role that jobs take on; made if it is absent")
    prefix: str = option("mask-classifier", "folder in the bucket that jobs may use")
    repository: str = option("mask-classifier", "ECR repository that jobs may pull from")
    data: str = option("", "S3 folder outside the prefix that jobs may read, s3://bucket/prefix")
    kms_key: str | None = option(None, "ARN of a KMS key that jobs may use")
    vpc: bool = option(False, "let jobs run in a VPC")
    dry_run: bool = option(False, "print the exact requests as JSON, send nothing")

    def problems(self) -> list[str]:
        """What is missing, one sentence each."""
        problems = bucket_problems(self.bucket) + prefix_problems(self.prefix)
        if not re.fullmatch(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", self.repository):
            problems.append(
                f"--repository: {self.repository!r} is not the name of an ECR repository, such as faces/train"
            )
        if self.data and not is_s3_folder(self.data):
            problems.append(f"--data: {self.data!r} is not of the form s3://bucket/prefix")
        if self.kms_key is not None and not _KEY.fullmatch(self.kms_key):
            problems.append(f"--kms-key: {self.kms_key!r} is not of the form arn:aws:kms:region:123456789012:key/id")
        if self.account is not None and not re.fullmatch(r"\d{12}", self.account):
            problems.append(f"--account: {self.account!r} is not a number of 12 digits")
        return problems


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What was submitted."""

    job: str = option("", "its name; may stand first, without the flag")

    def problems(self) -> list[str]:
        """What is missing, one sentence each."""
        return [] if self.job else ["a name is needed, such as `submit.py status mask-classifier-261124-031500123`"]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How to wait."""

    poll_seconds: float = option(15.0, "seconds between two questions to AWS", minimum=0)


@dataclass(frozen=True, kw_only=True)
class Download:
    """What a job left."""

    to: Path = option(Path("./download"), "folder to write to")
    info: Path | None = option(None, "of a transform: info.csv with the rows that output.csv shall have, in its order")
