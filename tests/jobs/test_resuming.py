"""The command that resumes a training job is one that `submit.py train` accepts, with the same hyperparameters."""

import shlex
from typing import Any

import pytest

from jobs.resuming import resume_command
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
