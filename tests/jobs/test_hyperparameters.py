"""Hyperparameters reach the job as they were meant, and a typo is found before anything costs money."""

import pytest

from config import TrainConfig
from jobs.hyperparameters import current_hyperparameters, default_hyperparameters, read_hyperparameters
from runtime.arguments import parse
from runtime.errors import ConfigError


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
        (["--parts", "99"], "99 is more than the 64 images of a batch"),
        (["--data-dir", "x"], "unknown argument '--data-dir'"),
    ],
)
def test_what_training_would_reject_is_rejected_here(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_hyperparameters(words)


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
