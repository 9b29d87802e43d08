"""Hyperparameters reach the job as they were meant, and a typo is found before anything costs money."""

import pytest

from config import TrainConfig
from jobs.hyperparameters import current_hyperparameters, default_hyperparameters, read_hyperparameters
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import DryRunCommand


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--epochs", "30", "--lr", "1e-4"],
        ["--resize", "224", "224"],
        ["--batch_size=256"],
        ["--criterion", "focal", "--criterion-args", '{"gamma": 1.5, "reduction": "sum"}'],
        ["--criterion-args", "gamma=2", "reduction=mean"],
        ["--deterministic", "False", "--crop", "none"],
        ["--deterministic"],
        ["--name", "it's; $(not) a shell"],
    ],
)
def test_the_job_reads_back_what_was_typed(words: list[str]) -> None:
    sent = read_hyperparameters(words)
    received = [f"--{name}={value}" for name, value in sent.items()]  # as container/launch.py passes them on
    assert parse("train.py", received, {}, TrainConfig) == parse("train.py", words, {}, TrainConfig)


def test_only_what_was_given_is_sent_as_strings() -> None:
    words = ["--epochs", "30", "--resize", "[128, 96]", "--deterministic", "no", "--criterion-args", "gamma=1.5"]
    assert read_hyperparameters(words) == {
        "epochs": "30",
        "resize": "128,96",
        "deterministic": "false",
        "criterion_args": '{"gamma": 1.5}',
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epoch", "3"], "unknown argument '--epoch' .did you mean '--epochs'"),
        (["--epochs", "many"], "--epochs: 'many' is not a whole number"),
        (["--criterion", "focl"], "did you mean 'focal'"),
        (["--recipe", "original", "--parts", "99"], "99 is more than the 64 images of a batch"),
        (["--data-dir", "x"], "unknown argument '--data-dir'"),
    ],
)
def test_what_training_would_reject_is_rejected_here(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_hyperparameters(words)


@pytest.mark.parametrize("command", ["train", "cv", "tune"])
def test_options_are_checked_with_the_recipe_that_the_job_gets(dry_run: DryRunCommand, command: str) -> None:
    data = ("--data", "s3://my-bucket/faces", *(("--search", "lr=0.1:1") if command == "tune" else ()))
    weights = ("--pretrained-data", "s3://my-bucket/weights")
    dry_run(command, *data, "--", "--warmup-epochs", "3")
    dry_run(command, *data, "--", "--parts", "48")
    with pytest.raises(ConfigError, match=r"^--parts: 48 is more than the 32 images of a batch$"):
        dry_run(command, *data, *weights, "--", "--model", "resnet18", "--parts", "48")
    with pytest.raises(ConfigError, match=r"^--warmup-epochs: 90 is more than the 80 epochs of the run$"):
        dry_run(command, *data, "--", "--warmup-epochs", "90")
    with pytest.raises(ConfigError, match=r"^--warmup-epochs: 3 is more than the 1 epochs of the run"):
        dry_run(command, *data, "--", "--recipe", "original", "--warmup-epochs", "3")


def test_a_job_that_is_resumed_has_the_recipe_of_its_checkpoint_which_is_not_known_here(dry_run: DryRunCommand) -> None:
    words = ("--resume-from", "faces-1", "--", "--warmup-epochs", "3")
    (request,) = dry_run("train", "--data", "s3://my-bucket/faces", *words)[0].values()
    assert request["HyperParameters"] == {"warmup_epochs": "3.0", "recipe": "auto"}


def test_old_names_are_sent_under_their_current_names() -> None:
    assert read_hyperparameters(["--accumulate", "4", "--statistics", "seed"]) == {
        "parts": "4",
        "statistics": "original",
    }
    assert current_hyperparameters({"accumulate": "4", "statistics": "seed"}).items() >= {
        ("parts", "4"),
        ("statistics", "original"),
    }


def test_defaults_are_those_of_training() -> None:
    defaults = default_hyperparameters()
    assert (defaults["epochs"], defaults["resize"], defaults["deterministic"]) == ("1", "128,96", "true")
    assert parse("train.py", [f"--{name}={value}" for name, value in defaults.items()], {}, TrainConfig) == parse(
        "train.py", [], {}, TrainConfig
    )
