"""The `pretrained` channel of a job: what is given, an earlier job's model, or the cached weights of its model."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.aws import Aws, AwsError
from jobs.pretrained import pretrained_channel
from jobs.training_options import TrainingOptions
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION, DryRunCommand

DATA = ("--data", "s3://my-bucket/faces")
JOB = "s3://my-bucket/mask-classifier/training/faces-1/output/model.tar.gz"


def channels(requests: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the S3 source of each channel of a training job by its name."""
    found = requests["CreateTrainingJob"]["InputDataConfig"]
    return {channel["ChannelName"]: channel["DataSource"]["S3DataSource"] for channel in found}


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache weights of resnet18; returns their folder."""
    folder = tmp_path / "cache/resnet18"
    folder.mkdir(parents=True)
    for name in ("resnet18.pth", "resnet18.pth.json"):
        (folder / name).write_text("{}")
    monkeypatch.setenv("WEIGHTS_CACHE", str(tmp_path / "cache"))
    return folder


def channel_of(aws: Aws | None, from_job: str, **hyperparameters: str) -> str | None:
    found = pretrained_channel(
        LOCATION, hyperparameters, pretrained_data="", from_job=from_job, resume_from="", aws=aws
    )
    return found[0] if found else None


@pytest.mark.parametrize(
    ("given", "uri"), [("faces-1", JOB), ("s3://other/m/model.tar.gz", "s3://other/m/model.tar.gz")]
)
def test_the_model_of_an_earlier_job_is_the_channel(dry_run: DryRunCommand, given: str, uri: str) -> None:
    found = channels(dry_run("train", *DATA, "--from", given)[0])
    assert [*found] == ["train", "pretrained"]
    assert (found["pretrained"]["S3Uri"], found["pretrained"]["S3DataType"]) == (uri, "S3Prefix")
    found = channels(dry_run("train", *DATA, "--pretrained-data", uri)[0])
    assert found["pretrained"]["S3Uri"] == uri


def test_an_earlier_job_with_another_model_is_rejected_before_it_costs() -> None:
    aws = FakeAws(DescribeTrainingJob={"HyperParameters": {"model": "resnet18", "epochs": "3"}})
    assert channel_of(aws, "faces-1", model="resnet18") == JOB
    sentence = "--from faces-1: it trained a resnet18, and this job would train a BaseModel; pass -- --model resnet18"
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        channel_of(aws, "faces-1")
    with pytest.raises(ConfigError, match="it trained a resnet18, and this job would train a TinyModel; pass"):
        channel_of(aws, "faces-1", recipe="scratch")
    of_scratch = FakeAws(DescribeTrainingJob={"HyperParameters": {"recipe": "scratch"}})
    assert channel_of(of_scratch, "faces-1", recipe="scratch") == JOB
    resumed = FakeAws(DescribeTrainingJob={"HyperParameters": {"recipe": "auto"}})
    assert channel_of(resumed, "faces-1", model="resnet18") == JOB, "its model is that of the job that it resumed"
    gone = FakeAws(DescribeTrainingJob=AwsError("could not find it", "ValidationException"))
    assert channel_of(gone, "faces-1") == JOB


def test_a_file_is_uploaded_alone_with_its_notes(dry_run: DryRunCommand, tmp_path: Path) -> None:
    for name in ("weights.pth", "other.pth", "notes.txt"):
        (tmp_path / name).write_bytes(b"0")
    requests, printed = dry_run("train", *DATA, "--pretrained-data", str(tmp_path / "weights.pth"))
    assert channels(requests)["pretrained"]["S3Uri"].startswith("s3://my-bucket/mask-classifier/data/")
    assert "uploads  1 file, " in printed
    (tmp_path / "weights.pth.json").write_text("{}")
    assert "uploads  2 files, " in dry_run("train", *DATA, "--pretrained-data", str(tmp_path / "weights.pth"))[1]


@pytest.mark.parametrize("command", ["train", "tune"])
def test_cached_weights_of_the_model_are_uploaded(dry_run: DryRunCommand, cached: Path, command: str) -> None:
    words = (command, *DATA, *(("--search", "lr=0.001:0.1") if command == "tune" else ()), "--", "--model", "resnet18")
    _, printed = dry_run(*words)
    assert f"weights of resnet18: those in the cache, {cached}; -- --pretrained none trains from scratch\n" in printed
    assert "uploads  2 files, 0.0 MB to s3://my-bucket/mask-classifier/data/resnet18-" in printed


@pytest.mark.parametrize(
    "words",
    [
        ("--", "--model", "resnet34"),
        ("--",),
        ("--", "--model", "resnet18", "--pretrained", "none"),
        ("--resume-from", "faces-1", "--", "--model", "resnet18"),
    ],
)
def test_other_jobs_start_without_the_cached_weights(
    dry_run: DryRunCommand, cached: Path, words: tuple[str, ...]
) -> None:
    requests, printed = dry_run("train", *DATA, *words)
    assert [*channels(requests)] == ["train"]
    assert "weights of" not in printed


def test_what_is_given_counts_before_the_cache(dry_run: DryRunCommand, cached: Path) -> None:
    requests, _ = dry_run("train", *DATA, "--from", "faces-1", "--", "--model", "resnet18")
    assert channels(requests)["pretrained"]["S3Uri"] == JOB


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--from", "a/b"), "--from: 'a/b' is neither the name of a training job nor s3://bucket/key/model.tar.gz"),
        (("--from", "a", "--pretrained-data", "b"), "--from and --pretrained-data: both are weights to start from"),
    ],
)
def test_what_does_not_fit_together_is_named(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", (*DATA, *flags), {}, TrainingOptions)
    assert sentence in str(caught.value)


def test_weights_that_the_job_would_ignore_are_an_error(dry_run: DryRunCommand) -> None:
    with pytest.raises(ConfigError, match=r"^--from: the job would ignore it because of -- --pretrained none; leave"):
        dry_run("train", *DATA, "--from", "faces-1", "--", "--pretrained", "none")


@pytest.mark.parametrize(("command", "is_searched"), [("train", False), ("cv", False), ("tune", False), ("tune", True)])
def test_weights_that_the_job_cannot_have_are_an_error(
    dry_run: DryRunCommand, tmp_path: Path, command: str, is_searched: bool
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"0")
    channel = ("--pretrained-data", "s3://my-bucket/weights")

    def submit(asked: str, *options: str) -> None:
        search = f"pretrained=none:{asked}" if is_searched else "lr=0.1:1"
        searched = ("--search", search) if command == "tune" else ()
        passed = () if is_searched else ("--", "--pretrained", asked)
        dry_run(command, *DATA, *options, *searched, *passed)

    for options in ((), channel):
        for file in (str(tmp_path / "weights.pth"), "missing.pth"):
            with pytest.raises(
                ConfigError, match=rf"^--pretrained {file}: the job does not have this file, as it is no"
            ):
                submit(file, *options)
    with pytest.raises(ConfigError, match=r"^--pretrained download: the job has no network; run `make weights MODEL="):
        submit("download")
    submit("download", "--network-isolation", "no")
    inside = "/opt/ml/input/data/pretrained/weights.pth"
    submit(inside, *channel)
    with pytest.raises(ConfigError, match=r"; pass --pretrained-data FILE before the -- instead$"):
        submit(inside)


def test_random_weights_are_not_frozen_for_a_whole_job(dry_run: DryRunCommand) -> None:
    frozen = ("--", "--freeze", "all")
    with pytest.raises(
        ConfigError, match=r"^--freeze: all keeps random weights for the whole run, as there are no weig"
    ):
        dry_run("train", *DATA, *frozen)
    assert "random weights" not in dry_run("train", *DATA, "--from", "faces-1", *frozen)[1]
    assert "random weights" not in dry_run("train", *DATA, "--resume-from", "faces-1", *frozen)[1]
    for words in ((*frozen, "--freeze-epochs", "3"), ("--", "--recipe", "finetune")):
        printed = dry_run("train", *DATA, *words)[1]
        assert [line for line in printed.splitlines() if line.startswith("warning: --")], printed


def test_a_model_that_the_job_cannot_start_from_is_not_uploaded(dry_run: DryRunCommand, tmp_path: Path) -> None:
    def submit(record: dict[str, Any], *words: str) -> None:
        (tmp_path / "model.json").write_text(json.dumps(record))
        dry_run("train", *DATA, "--pretrained-data", str(tmp_path), *words)

    single = {"architecture": "resnet18"}
    submit(single, "--", "--model", "resnet18")
    with pytest.raises(ConfigError, match="it is a resnet18, and this job would train a BaseModel; pass -- --mod"):
        submit(single)
    with pytest.raises(ConfigError, match=r"an ensemble of 2 models cannot be started from; give one of them, such as"):
        submit({"architecture": "Ensemble", "members": [single, single]}, "--", "--model", "resnet18")
