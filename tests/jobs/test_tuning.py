"""A search for hyperparameters: what SageMaker or training would reject is rejected before it costs anything."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.common import SecureJobLocation
from jobs.training_options import TrainingOptions
from jobs.tuning import TuningOptions, read_search, tuning_job
from metrics import metric_definitions
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import LOCATION, LOCATIONS, SECURED, TAGS, VPC, DryRunCommand, checked

DATA = ("--data", "s3://my-bucket/faces")
TRAINING = TrainingOptions(data="s3://my-bucket/faces/")
TUNING = TuningOptions(search="lr=0.1:1")
RANGES = {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.1", "MaxValue": "1", "ScalingType": "Auto"}]}


def request(
    location: SecureJobLocation = LOCATION,
    training: TrainingOptions = TRAINING,
    tuning: TuningOptions = TUNING,
    **hyperparameters: str,
) -> dict[str, Any]:
    options, channels = (training, tuning), {"train": "s3://my-bucket/faces/"}
    call = tuning_job(
        "t-1", location, options, "image:tag", channels=channels, hyperparameters=hyperparameters, ranges=RANGES
    )
    return checked(call)


# ---- options ----


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "--search: required"),
        (("--search", "lr=1:2", "--max-jobs", "2", "--max-parallel-jobs", "3"), "3 is more than --max-jobs 2"),
        (("--search", "lr"), "--search: 'lr' is not of the form name=value"),
        (("--search", "epochs=1:9", "--strategy", "Hyperband"), "Hyperband chooses the epochs; give the maximum"),
    ],
)
def test_what_does_not_fit_together_is_named(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, {}, TuningOptions)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--objective", "val_f1"), "--objective: unknown metric 'val_f1' .did you mean 'val:f1'"),
        (("--objective", "epoch"), "--objective: unknown metric 'epoch'"),
        (("--objective", "train:loss"), "--objective: unknown metric 'train:loss'"),
        (
            ("--strategy", "Hyperband", "--", "--recipe", "original"),
            "--strategy Hyperband: needs several epochs to choose from",
        ),
        (("--name", "a-name-of-20-letters"), "at most 15 characters"),
        (("--resume-from", "faces-1"), "--resume-from: a search cannot be resumed"),
    ],
)
def test_a_search_that_sagemaker_would_reject_is_rejected(
    dry_run: DryRunCommand, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dry_run("tune", *DATA, "--search", "lr=0.1:1", *words)


# ---- the request ----


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(location: SecureJobLocation, spot: bool, instance_type: str) -> None:
    request(location, replace(TRAINING, spot=spot, instance_type=instance_type, environment="A=1,B="))


def test_the_container_has_no_network() -> None:
    assert request()["TrainingJobDefinition"]["EnableNetworkIsolation"] is True


def test_the_objective_is_a_metric_that_training_logs() -> None:
    definitions = request()["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert definitions == metric_definitions()
    objective = request()["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    assert objective["MetricName"] in [definition["Name"] for definition in definitions]


def test_trials_of_a_search_share_no_checkpoint() -> None:
    assert "CheckpointConfig" not in request()["TrainingJobDefinition"]


def test_early_stopping_can_be_switched_off() -> None:
    for early_stopping, word in ((True, "Auto"), (False, "Off")):
        config = request(tuning=replace(TUNING, early_stopping=early_stopping))["HyperParameterTuningJobConfig"]
        assert config["TrainingJobEarlyStoppingType"] == word


def test_hyperband_gets_the_maximum_epochs_and_stops_trials_by_itself() -> None:
    tuning = replace(TUNING, strategy="Hyperband")
    config = request(tuning=tuning)["HyperParameterTuningJobConfig"]
    assert config["TrainingJobEarlyStoppingType"] == "Off"  # SageMaker rejects Auto
    assert config["StrategyConfig"] == {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 1}}
    config = request(tuning=tuning, epochs="30")["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"]["MaxResource"] == 30
    assert "StrategyConfig" not in request()["HyperParameterTuningJobConfig"]


def test_a_vpc_and_tags_go_with_the_search() -> None:
    assert request(SECURED)["TrainingJobDefinition"]["VpcConfig"] == VPC
    assert request(SECURED)["Tags"] == TAGS


# ---- the command ----


def test_a_search_says_what_it_can_cost_in_all(dry_run: DryRunCommand) -> None:
    search = ("--search", "lr=0.001:0.1:log,optimizer=SGD:AdamW", "--max-jobs", "10", "--max-hours", "2")
    requests, printed = dry_run("tune", *DATA, *search, "--price-per-hour", "1", "--", "--epochs", "5")
    definition = requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert definition["StaticHyperParameters"] == {"epochs": "5", "recipe": "scratch"}
    assert "runs on  2 x ml.g5.xlarge, spot" in printed
    assert "longest  10 jobs, each 2 h of training" in printed
    assert "costs    at most 20.00 (20 instance hours at 1); spot costs less" in printed


@pytest.mark.parametrize(("objective", "kind"), [("val:loss", "Minimize"), ("val:f1", "Maximize")])
def test_a_loss_is_minimised_and_any_other_metric_maximised(dry_run: DryRunCommand, objective: str, kind: str) -> None:
    requests, _ = dry_run("tune", *DATA, "--search", "lr=0.1:1", "--objective", objective)
    config = requests["CreateHyperParameterTuningJob"]["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {"Type": kind, "MetricName": objective}


# ---- the search space ----


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
        ("epochs=1:5", "has a fixed value after -- as well"),
        ("warmup_epochs=1:9", "more than the 5 epochs"),
        ("batch-size=1:4,batch_size=8:16", "--search: 'batch_size' is given twice"),
    ],
)
def test_a_search_that_training_would_reject_is_rejected(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_search(text, ["--epochs", "5", "--recipe", "original"])


def test_a_search_is_checked_with_the_recipe_that_the_job_gets(dry_run: DryRunCommand) -> None:
    """Without weights to start from that is scratch: 80 epochs, 64 images in a batch."""
    hyperband = ("--strategy", "Hyperband")
    requests, _ = dry_run("tune", *DATA, "--search", "warmup_epochs=1:9,parts=1:48", *hyperband)
    config = requests["CreateHyperParameterTuningJob"]["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"]["MaxResource"] == 80
    with pytest.raises(ConfigError, match=r"^--search warmup_epochs=1:99: --warmup-epochs: 99 is more than the 80 epo"):
        dry_run("tune", *DATA, "--search", "warmup_epochs=1:99")
    weights = ("--pretrained-data", "s3://my-bucket/weights")
    with pytest.raises(ConfigError, match=r"^--search parts=1:48: --parts: 48 is more than the 32 images of a batch$"):
        dry_run("tune", *DATA, *weights, "--search", "parts=1:48", "--", "--model", "resnet18")


def test_every_mistake_of_a_search_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--search a=1: .*; --search lr=x: "):
        read_search("a=1,lr=x", [])
