"""Hyperparameters reach the job as they were meant, and a typo is found before anything costs money."""

import pytest

from config import TrainConfig
from jobs.hyperparameters import read_hyperparameters, read_search, refuse_restarts
from runtime.arguments import parse
from runtime.errors import ConfigError


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--epochs", "30", "--lr", "1e-4"],
        ["--resize", "224", "224"],
        ["--batch_size=128", "--batch-size", "256"],
        ["--criterion", "focal", "--criterion-args", '{"gamma": 1.5, "reduction": "sum"}'],
        ["--criterion-args", "gamma=2", "reduction=mean"],
        ["--deterministic", "False", "--crop", "none"],
        ["--deterministic"],
        ["--name", "it's; $(not) a shell"],
    ],
)
def test_the_job_reads_back_what_was_typed(words: list[str]) -> None:
    sent = read_hyperparameters(words)
    received = [f"--{name}={value}" for name, value in sent.items()]  # as container/launch.py hands them on
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
        (["--parts", "99"], "99 parts of a batch of 64"),
        (["--data-dir", "x"], "unknown argument '--data-dir'"),
    ],
)
def test_what_training_would_refuse_is_refused_here(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_hyperparameters(words)


def test_a_search_becomes_ranges_by_the_type_of_each_hyperparameter() -> None:
    text = "lr=0.001:0.1:log,batch-size=32:1e2,optimizer=SGD:AdamW,deterministic=true:false,momentum=0.5:0.9:linear"
    assert read_search(text, ["--epochs", "5"]) == {
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
            {"Name": "momentum", "MinValue": "0.5", "MaxValue": "0.9", "ScalingType": "Linear"},
        ],
        "IntegerParameterRanges": [
            {"Name": "batch_size", "MinValue": "32", "MaxValue": "100", "ScalingType": "Auto"},
        ],
        "CategoricalParameterRanges": [
            {"Name": "optimizer", "Values": ["SGD", "AdamW"]},
            {"Name": "deterministic", "Values": ["true", "false"]},
        ],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning=1:2", "unknown hyperparameter 'learning'"),
        ("lr=0.1:0.001", "expected low:high"),
        ("lr=0:0.1:log", "expected low:high"),
        ("lr=0.1", "expected low:high"),
        ("lr=a:b", "expected low:high"),
        ("lr=0.1:0.2:cubic", "scales are linear, log, auto"),
        ("batch_size=0.5:2", "'0.5' is not a whole number"),
        ("momentum=0:1", "1 is out of range"),
        ("optimizer=SGD:Adm", "unknown value 'Adm'"),
        ("resize=128:256", "cannot be searched"),
        ("epochs=1:5", "is given a fixed value after -- as well"),
        ("warmup_epochs=1:9", "more than the 5 epochs"),
    ],
)
def test_a_search_that_training_would_refuse_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_search(text, ["--epochs", "5"])


def test_every_mistake_of_a_search_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--search a=1: .*; --search lr=x: "):
        read_search("a=1,lr=x", [])


def test_a_spot_job_never_forgets_its_checkpoint() -> None:
    refuse_restarts({"resume": "never"}, spot=False)
    refuse_restarts({"resume": "auto"}, spot=True)
    with pytest.raises(ConfigError, match="leave it out, each job begins anew"):
        refuse_restarts({"resume": "never"}, spot=True)
