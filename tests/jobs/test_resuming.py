"""The command that resumes a training job is one that `submit.py train` accepts, and makes the same request."""

import shlex
from dataclasses import fields
from typing import Any

import pytest

from jobs.common import SecureJobLocation
from jobs.resuming import known_options, resume_command
from jobs.training_options import TrainingOptions
from support.job_requests import DryRunCommand

CHECKPOINTS = {"CheckpointConfig": {"S3Uri": "s3://my-bucket/mask-classifier/checkpoints/faces-0/"}}


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}


def test_the_job_that_is_resumed_gets_the_same_data_and_hyperparameters(dry_run: DryRunCommand) -> None:
    words = ("--data", "s3://my-bucket/faces", "--validation-data", "s3://my-bucket/others", "--spot", "no", "--")
    options = (
        "--epochs",
        "3",
        "--fold",
        "2/5",
        "--augmentation-args",
        "num_ops=2",
        "magnitude=9",
        "--resize",
        "128",
        "96",
    )
    first = dry_run("train", *words, *options, "--resume", "never")[0]["CreateTrainingJob"]
    name = first["TrainingJobName"]
    again = shlex.split(resume_command(first))
    assert again[:2] == ["submit.py", "train"]
    second = dry_run(*again[1:])[0]["CreateTrainingJob"]
    theirs = {key: value for key, value in first["HyperParameters"].items() if key != "resume"}
    assert second["HyperParameters"] == theirs
    assert second["InputDataConfig"] == first["InputDataConfig"]
    assert second["CheckpointConfig"] == first["CheckpointConfig"]
    assert resume_command(second | {"TrainingJobName": "another"}) == resume_command(first)
    assert f"--resume-from {name}" in resume_command(first)


NOT_DEFAULTS = (
    ("--prefix", "teams/a"),
    ("--kms-key", "arn:aws:kms:eu-west-1:123456789012:key/abc"),
    ("--subnets", "subnet-1,subnet-2", "--security-groups", "sg-1,sg-2"),
    ("--network-isolation", "false"),
    ("--instance-type", "ml.m5.xlarge"),
    ("--instance-count", "2"),
    ("--volume-gb", "500"),
    ("--max-hours", "671.9"),
    ("--max-hours", "5", "--max-wait-hours", "6.5"),
    ("--max-hours", "401.505"),
    ("--spot", "false"),
    ("--spot", "false", "--warm-pool-minutes", "10"),
    ("--input-mode", "FastFile"),
    ("--environment", "LOG=a b,NOTE={c}"),
)


@pytest.mark.parametrize("options", [*NOT_DEFAULTS, tuple(word for words in NOT_DEFAULTS[:8] for word in words)])
def test_the_job_that_is_resumed_runs_with_the_same_options(dry_run: DryRunCommand, options: tuple[str, ...]) -> None:
    first = dry_run("train", "--data", "s3://my-bucket/faces", *options)[0]["CreateTrainingJob"]
    again = shlex.split(resume_command(first))
    second = dry_run(*again[1:])[0]["CreateTrainingJob"]
    assert second | {"TrainingJobName": ""} == first | {"TrainingJobName": ""}
    assert sorted(again[6 : again.index("--")]) == sorted(options), "options at their defaults are left out"


def test_every_option_of_a_training_job_is_repeated_or_left_to_the_user() -> None:
    left = {"role", "bucket", "repository", "image", "tags", "name", "data", "validation_data", "pretrained_data"}
    names = {field.name for cls in (SecureJobLocation, TrainingOptions) for field in fields(cls)}
    assert names - {name for name, _ in known_options({}, "")} == left | {"from_", "resume_from", "max_wait_hours"}


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        ({}, ""),
        (CHECKPOINTS, "submit.py train --data DATA --resume-from faces-0"),
        (
            {"CheckpointConfig": {"S3Uri": "s3://my-bucket/teams/a/checkpoints/faces-0/"}},
            "submit.py train --data DATA --resume-from faces-0 --prefix teams/a",
        ),
        (
            CHECKPOINTS | {"InputDataConfig": [channel("train", "s3://b/list"), channel("labels", "s3://b/labels/")]},
            "submit.py train --data MANIFEST --resume-from faces-0",
        ),
        (
            CHECKPOINTS | {"HyperParameters": {"sagemaker_program": "train.py", "lr": '"0.01"', "name": "-x"}},
            "submit.py train --data DATA --resume-from faces-0 -- --lr 0.01 --name=-x",
        ),
    ],
)
def test_what_is_not_known_of_a_job_is_left_to_the_user(facts: dict[str, Any], command: str) -> None:
    assert resume_command(facts) == command
