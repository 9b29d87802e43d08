"""Commands that submit: the whole way from flags to requests, without an account and without a network."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import submit
from jobs import job_commands
from runtime.errors import ConfigError, DataError, JobError

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mask-classifier:abc"
PLACE = ("--role", "arn:aws:iam::123456789012:role/sagemaker", "--bucket", "my-bucket", "--region", "eu-west-1")
S3_DATA = ("--data", "s3://my-bucket/faces")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, no region, and a network that cannot be used."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")

    def refuse(*args: Any) -> None:
        raise AssertionError("a dry run went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def dry_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[dict[str, Any], str]]:
    """Run a command with --dry-run; returns its requests and what it said besides."""

    def run(command: str, *words: str) -> tuple[dict[str, Any], str]:
        submit.main([command, "--dry-run", "--image", IMAGE, *PLACE, *words], {})
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return run


def test_a_training_job_from_a_local_folder(dry_run: Callable[..., Any], faces: Callable[..., Path]) -> None:
    words = ("--data", str(faces(people=2)), "--price-per-hour", "1.5", "--", "--epochs", "3", "--model", "resnet18")
    requests, said = dry_run("train", *words)
    request = requests["CreateTrainingJob"]
    assert request["HyperParameters"] == {"epochs": "3", "model": "resnet18"}
    assert request["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    (channel,) = request["InputDataConfig"]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri.startswith("s3://my-bucket/mask-classifier/data/images-")
    assert uri.endswith("/")
    assert f"14 files, 0.0 MB to {uri}" in said
    assert "longest  12 h of training, over after 24 h with waiting" in said
    assert "costs    at most 18.00 (12 machine hours at 1.5); spot is less" in said
    assert "resumes" not in said


def test_every_job_has_a_name_of_its_own_that_ends_with_the_time(dry_run: Callable[..., Any]) -> None:
    requests, _ = dry_run("train", *S3_DATA, "--name", "faces")
    name = requests["CreateTrainingJob"]["TrainingJobName"]
    head, day, time = name.rsplit("-", 2)
    assert (head, len(day), len(time), (day + time).isdigit()) == ("faces", 6, 9, True)


def test_a_job_begins_anew_unless_it_is_told_which_one_to_go_on_from(dry_run: Callable[..., Any]) -> None:
    folder = "s3://my-bucket/mask-classifier/checkpoints"
    request = dry_run("train", *S3_DATA)[0]["CreateTrainingJob"]
    assert request["CheckpointConfig"]["S3Uri"] == f"{folder}/{request['TrainingJobName']}/"
    requests, said = dry_run("train", *S3_DATA, "--resume-from", "faces-1")
    assert requests["CreateTrainingJob"]["CheckpointConfig"]["S3Uri"] == f"{folder}/faces-1/"
    assert f"resumes  {folder}/faces-1/\n" in said


def test_a_folder_of_s3_is_not_taken_for_the_beginning_of_another(dry_run: Callable[..., Any]) -> None:
    for uri in ("s3://my-bucket/faces", "s3://my-bucket/faces/"):
        requests, _ = dry_run("train", "--data", uri)
        (channel,) = requests["CreateTrainingJob"]["InputDataConfig"]
        assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://my-bucket/faces/"


def test_weights_to_start_from_are_a_channel_of_their_own(dry_run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/resnet18.pth").write_bytes(b"0")
    requests, said = dry_run("train", *S3_DATA, "--pretrained-data", str(tmp_path / "weights"))
    channels = [channel["ChannelName"] for channel in requests["CreateTrainingJob"]["InputDataConfig"]]
    assert channels == ["train", "pretrained"]
    assert "uploads  1 file, " in said


def test_a_folder_that_training_cannot_read_is_refused_before_the_upload(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="no profile folders under --data"):
        dry_run("train", "--data", str(tmp_path))
    requests, _ = dry_run("train", "--data", str(tmp_path), "--", "--dataset", "ImageFolderDataset")
    assert requests["CreateTrainingJob"]["HyperParameters"] == {"dataset": "ImageFolderDataset"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*S3_DATA, "--", "--epoch", "3"), "did you mean '--epochs'"),
        ((*S3_DATA, "--epochs", "3"), "unknown argument '--epochs'"),
        ((*S3_DATA, "--instance-type", "g5.xlarge"), "did you mean 'ml.g5.xlarge'"),
        ((*S3_DATA, "--", "--resume", "never"), "leave it out, each job begins anew"),
    ],
)
def test_a_typo_costs_nothing(dry_run: Callable[..., Any], words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dry_run("train", *words)


def test_a_machine_whose_gpus_would_stand_idle_is_named(dry_run: Callable[..., Any]) -> None:
    model = ("--model", "faces-1")
    for command, *words in (("train",), ("tune", "--search", "lr=0.1:1"), ("transform", *model), ("deploy", *model)):
        words += [] if command == "deploy" else S3_DATA
        _, said = dry_run(command, *words, "--instance-type", "ml.g5.12xlarge")
        assert "waste    ml.g5.12xlarge has several GPUs, the job uses one; take a machine with one" in said
        assert "waste" not in dry_run(command, *words)[1]
    _, said = dry_run("train", *S3_DATA, "--instance-type", "ml.p2.xlarge")
    assert "waste    ml.p2.xlarge has no chip that the job can use beside its CPU" in said


def test_a_search_says_what_it_can_cost_in_all(dry_run: Callable[..., Any]) -> None:
    search = ("--search", "lr=0.001:0.1:log,optimizer=SGD:AdamW", "--max-jobs", "10", "--max-hours", "2")
    requests, said = dry_run("tune", *S3_DATA, *search, "--price-per-hour", "1", "--", "--epochs", "5")
    definition = requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert definition["StaticHyperParameters"] == {"epochs": "5"}
    assert "runs on  2 x ml.g5.xlarge, spot" in said
    assert "longest  10 jobs, each 2 h of training" in said
    assert "costs    at most 20.00 (20 machine hours at 1); spot is less" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--objective", "val_f1"), "--objective: unknown metric 'val_f1' .did you mean 'val:f1'"),
        (("--objective", "epoch"), "--objective: unknown metric 'epoch'"),
        (("--objective", "train:loss"), "--objective: unknown metric 'train:loss'"),
        (("--strategy", "Hyperband"), "--strategy Hyperband: needs several epochs to choose from"),
        (("--name", "a-name-of-20-letters"), "at most 15 characters"),
        (("--resume-from", "faces-1"), "--resume-from: the jobs of a search share no checkpoint"),
    ],
)
def test_a_search_that_sagemaker_would_refuse_is_refused(
    dry_run: Callable[..., Any], words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dry_run("tune", *S3_DATA, "--search", "lr=0.1:1", *words)


@pytest.mark.parametrize(("objective", "kind"), [("val:loss", "Minimize"), ("val:f1", "Maximize")])
def test_a_search_brings_a_loss_down_and_any_other_metric_up(
    dry_run: Callable[..., Any], objective: str, kind: str
) -> None:
    requests, _ = dry_run("tune", *S3_DATA, "--search", "lr=0.1:1", "--objective", objective)
    config = requests["CreateHyperParameterTuningJob"]["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {"Type": kind, "MetricName": objective}


def test_a_transform_labels_the_images_of_a_folder_and_nothing_else(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for name in ("info.csv", "images/a.jpg", "images/b.png"):
        (tmp_path / name).write_text(name)
    requests, said = dry_run("transform", "--data", str(tmp_path), "--model", "faces-1", "--environment", "A=1")
    assert list(requests) == ["CreateModel", "CreateTransformJob"]
    model = requests["CreateModel"]["PrimaryContainer"]["ModelDataUrl"]
    assert model == "s3://my-bucket/mask-classifier/training/faces-1/output/model.tar.gz"
    assert requests["CreateTransformJob"]["ModelName"] == requests["CreateModel"]["ModelName"]
    assert requests["CreateTransformJob"]["Environment"] == {"A": "1"}
    assert "uploads  2 files" in said
    assert "a transform has no time limit of its own" in said


def test_an_image_larger_than_the_payload_is_named_before_the_upload(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(3 * 2**20 + 1))
    with pytest.raises(DataError, match=r"an image has 3.0 MB, more than --max-payload-mb 3; raise it, and lower"):
        dry_run("transform", "--data", str(tmp_path), "--model", "faces-1", "--max-payload-mb", "3")


def test_an_evaluation_compares_two_folders(dry_run: Callable[..., Any], tmp_path: Path) -> None:
    for name in (
        "predictions/output.csv",
        "predictions/answers/a.jpg.out",
        "predictions/exp/split.csv",
        "truth/gt.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("ImageID,ans\na.jpg,3\n")
    folders = ("--predictions", str(tmp_path / "predictions"), "--ground-truth", str(tmp_path / "truth"))
    requests, said = dry_run("evaluate", *folders, "--", "--bootstrap", "10")
    request = requests["CreateProcessingJob"]
    assert request["AppSpecification"]["ContainerArguments"] == ["--bootstrap", "10"]
    assert said.count("uploads  1 file, ") == 2  # output.csv and gt.csv, and nothing that lies beside them
    assert "/evaluation.json" in said
    with pytest.raises(ConfigError, match="did you mean '--bootstrap'"):
        dry_run("evaluate", *folders, "--", "--bootstraps", "10")


def test_labels_that_do_not_belong_to_the_truth_are_refused_before_the_upload(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    for name, row in (("predictions/output.csv", "a.jpg,3"), ("truth/gt.csv", "b.jpg,3")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"ImageID,ans\n{row}\n")
    folders = ("--predictions", str(tmp_path / "predictions"), "--ground-truth", str(tmp_path / "truth"))
    with pytest.raises(DataError, match=r"output\.csv has no row for 1 image \(b\.jpg\)"):
        dry_run("evaluate", *folders)


def test_an_endpoint_says_that_it_costs_until_it_is_removed(dry_run: Callable[..., Any]) -> None:
    requests, said = dry_run("deploy", "--model", "faces-1", "--price-per-hour", "1.5")
    assert list(requests) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert f"until it is removed: `submit.py remove {requests['CreateEndpoint']['EndpointName']}`" in said
    assert "costs    1.5 per machine and hour, until it has ended or is removed" in said


def test_a_registration_shows_the_group_and_the_package(dry_run: Callable[..., Any]) -> None:
    requests, _ = dry_run("register", "--model", "faces-1", "--evaluation", "faces-2")
    assert list(requests) == ["CreateModelPackageGroup", "CreateModelPackage"]


def test_the_image_is_that_of_the_commit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job_commands, "commit_tag", lambda: "0123456789ab")
    submit.main(["train", "--dry-run", *PLACE, *S3_DATA], {})
    request = json.loads(capsys.readouterr().out)["CreateTrainingJob"]
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert request["AlgorithmSpecification"]["TrainingImage"] == f"{host}/mask-classifier:0123456789ab"


def test_without_a_region_it_is_asked_for() -> None:
    with pytest.raises(JobError, match="no AWS region"):
        submit.main(["train", "--dry-run", *PLACE[:4], *S3_DATA], {})
