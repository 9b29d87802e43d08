"""The whole way against a real HTTP server that speaks AWS's protocol: from an empty account to predictions."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import submit
from data.readers import read_apart
from runtime.errors import ConfigError, DataError, JobError
from runtime.version import version
from support.aws_account import ACCOUNT, IMAGE, REGION, allowed_to_submitters, archive, client, put
from support.processes import Process


def test_from_an_empty_account_to_a_registered_model_with_the_submitters_permissions_alone(
    ready: Callable[..., list[str]],
    faces: Callable[..., Path],
    tmp_path: Path,
    calls: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, quick, s3 = ("--image", IMAGE), ("--poll-seconds", "0"), "s3://my-bucket/mask-classifier"
    calls.clear()

    data = faces(people=2)
    (job,) = ready("train", "--data", str(data), *image, *quick, "--tags", "team=a", "--wait", "--", "--epochs", "3")
    described = client("sagemaker").describe_training_job(TrainingJobName=job)
    assert described["HyperParameters"] == {"epochs": "3", "recipe": "scratch"}
    assert described["EnableManagedSpotTraining"] is True
    (channel,) = described["InputDataConfig"]
    prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://my-bucket/")
    uploaded = client("s3").list_objects_v2(Bucket="my-bucket", Prefix=prefix)["Contents"]
    expected = {path.relative_to(data).as_posix(): path.stat().st_size for path in data.rglob("*.jpg")}
    assert {entry["Key"].removeprefix(prefix): entry["Size"] for entry in uploaded} == expected

    # what SageMaker would write when the container has ended
    put(f"{s3}/training/{job}/output/model.tar.gz", archive(**{"model.json": "{}", "model.safetensors": "weights"}))
    put(f"{s3}/training/{job}/output/output.tar.gz", archive(exp__config="{}"))
    assert ready("status", job)[0].startswith(f"training job '{job}'  Completed")
    assert "Completed" in ready("wait", job, *quick)[-1]
    assert ready("download", job, "--to", str(tmp_path / "got")) == [
        str(tmp_path / "got/model"),
        str(tmp_path / "got/output"),
    ]
    assert (tmp_path / "got/model/model.safetensors").read_text() == "weights"
    assert (tmp_path / "got/output/exp/config").read_text() == "{}"
    assert not (tmp_path / "got/model.tar.gz").exists()

    profile = next(path for path in sorted(data.iterdir()))
    (profile / "info.csv").write_text("ImageID,ans\nnormal.jpg,0\nmask1.jpg,0\n")
    (transform,) = ready("transform", "--model", job, "--data", str(profile), *image)
    described = client("sagemaker").describe_transform_job(TransformJobName=transform)
    assert described["TransformResources"]["TransformAmiVersion"] == "al2-ami-sagemaker-batch-gpu-535"
    for number, name in enumerate(("mask1", "normal")):
        put(f"{described['TransformOutput']['S3OutputPath']}/{name}.jpg.out", b'{"prediction": %d}' % number)
    ready("download", transform, "--to", str(tmp_path / "labels"), "--info", str(profile / "info.csv"))
    assert (tmp_path / "labels/output.csv").read_text() == "ImageID,ans\nnormal.jpg,1\nmask1.jpg,0\n"

    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt.csv").write_text("ImageID,ans\nnormal.jpg,1\nmask1.jpg,0\n")
    folders = ("--predictions", str(tmp_path / "labels"), "--ground-truth", str(tmp_path / "gt"))
    (evaluation,) = ready("evaluate", *folders, *image, "--", "--bootstrap", "0")
    put(f"{s3}/evaluation/{evaluation}/evaluation.json", b"{}")
    found = ready("download", evaluation, "--to", str(tmp_path / "quality"))
    assert found == [str(tmp_path / "quality/evaluation.json")]

    registration = ("register", "--model", job, "--evaluation", evaluation, *image)
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/mask-classifier"
    assert [ready(*registration), ready(*registration)] == [[f"{arn}/1"], [f"{arn}/2"]]

    on_cpu = ("--instance-type", "ml.m5.large")
    (endpoint,) = ready("deploy", "--model", job, *image, *quick, *on_cpu, "--wait")
    assert ready("remove", endpoint) == [f"removed {endpoint}: Endpoint, EndpointConfig, Model"]
    assert ready("remove", transform) == [f"removed {transform}: Model"]
    (search,) = ready("tune", "--data", str(data), *image, "--search", "lr=0.001:0.1:log")
    assert ready("status", search)[0].startswith(f"tuning job '{search}'")

    assert calls <= allowed_to_submitters()
    assert {f"sagemaker:Create{name}" for name in ("TrainingJob", "Model", "TransformJob", "Endpoint")} <= calls


def test_a_job_resumes_another_one(ready: Callable[..., list[str]], faces: Callable[..., Path]) -> None:
    words = ("train", "--data", str(faces(people=2)), "--image", IMAGE)
    (first,) = ready(*words, "--", "--epochs", "3")
    with pytest.raises(JobError, match=f"there is no file in S3 under this name.*/checkpoints/{first}/"):
        ready(*words, "--resume-from", first, "--", "--epochs", "3")
    folder = f"s3://my-bucket/mask-classifier/checkpoints/{first}/"
    put(f"{folder}step-000000001.json", b"{}")
    with pytest.raises(JobError, match="epochs was 3, is 4"):
        ready(*words, "--resume-from", first, "--", "--epochs", "4")
    (second,) = ready(*words, "--resume-from", first, "--", "--epochs", "3")
    described = client("sagemaker").describe_training_job(TrainingJobName=second)
    assert described["CheckpointConfig"]["S3Uri"] == folder


def test_a_job_starts_from_the_model_of_another_one(
    ready: Callable[..., list[str]], faces: Callable[..., Path]
) -> None:
    words = ("train", "--data", str(faces(people=2)), "--image", IMAGE)
    (first,) = ready(*words, "--", "--model", "resnet18")
    uri = f"s3://my-bucket/mask-classifier/training/{first}/output/model.tar.gz"
    with pytest.raises(JobError, match=f"a file that the job needs does not exist; .*: {uri}"):
        ready(*words, "--from", first, "--", "--model", "resnet18")
    put(uri, b"a model")
    with pytest.raises(JobError, match=f"--from {first}: it trained a resnet18, and this job would train a BaseModel"):
        ready(*words, "--from", first)
    (second,) = ready(*words, "--from", first, "--", "--model", "resnet18")
    described = client("sagemaker").describe_training_job(TrainingJobName=second)
    sources = {channel["ChannelName"]: channel["DataSource"] for channel in described["InputDataConfig"]}
    assert sources["pretrained"]["S3DataSource"]["S3Uri"] == uri
    assert sources["pretrained"]["S3DataSource"]["S3DataType"] == "S3Prefix"


def test_a_folder_is_sent_once(
    ready: Callable[..., list[str]], faces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "--data", str(faces(people=2)), "--image", IMAGE)
    for sent in ("uploaded 14 files, 0 already there", "uploaded 0 files, 14 already there"):
        submit.main(words, os.environ)
        assert sent in capsys.readouterr().err


def test_a_manifest_in_s3_trains_on_its_objects_with_the_submitters_permissions_alone(
    ready: Callable[..., list[str]], tmp_path: Path, calls: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri, lines = "s3://my-bucket/mask-classifier/pets.manifest", []
    for key, name in (("cat.jpg", "cat"), ("dogs/1.jpg", "dog")):
        metadata = {"class-name": name, "type": "groundtruth/image-classification"}
        source = f"s3://my-bucket/pets/{key}"
        lines.append({"source-ref": source, "animal": 0, "animal-metadata": metadata})
        put(source, b"")
    put(uri, "\n".join(map(json.dumps, [*lines, {"source-ref": "s3://my-bucket/pets/new.jpg"}])).encode())
    calls.clear()
    submit.main(("train", "--data", uri, "--image", IMAGE), os.environ)
    printed = capsys.readouterr()
    assert f"warning: 1 lines of pets.manifest have no label and are left out: {uri}" in printed.err
    described = client("sagemaker").describe_training_job(TrainingJobName=printed.out.strip())
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"] for channel in described["InputDataConfig"]
    }

    # what SageMaker copies into the two channels
    assert (channels["train"]["S3DataType"], channels["labels"]["S3DataType"]) == ("ManifestFile", "S3Prefix")
    bucket, _, key = channels["train"]["S3Uri"].removeprefix("s3://").partition("/")
    listed = json.load(client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    for name in listed[1:]:
        source = f"{listed[0]['prefix']}{name}".removeprefix("s3://my-bucket/")
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        client("s3").download_file("my-bucket", source, str(tmp_path / "train" / name))
    prefix = channels["labels"]["S3Uri"].removeprefix("s3://my-bucket/")
    (entry,) = client("s3").list_objects_v2(Bucket="my-bucket", Prefix=prefix)["Contents"]
    (tmp_path / "labels").mkdir()
    client("s3").download_file("my-bucket", entry["Key"], str(tmp_path / "labels" / entry["Key"].removeprefix(prefix)))
    samples = read_apart("auto", tmp_path / "train", tmp_path / "labels")
    assert samples.table["path"].tolist() == ["pets/cat.jpg", "pets/dogs/1.jpg"]
    assert samples.scheme.classes == ("cat", "dog")

    put(uri, b"{}")
    with pytest.raises(DataError, match=f"pets.manifest has no label of an image classification.*: {uri}$"):
        ready("train", "--data", uri, "--image", IMAGE)
    assert calls <= allowed_to_submitters()


def test_a_log_is_printed_as_far_as_it_goes(
    ready: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    put("s3://my-bucket/faces/1.jpg", b"")
    (job,) = ready("train", "--data", "s3://my-bucket/faces", "--image", IMAGE)
    group, stream = "/aws/sagemaker/TrainingJobs", f"{job}/algo-1-1764000000"
    client("logs").create_log_group(logGroupName=group)
    client("logs").create_log_stream(logGroupName=group, logStreamName=stream)
    lines = ["epoch=1; val_f1=0.5;", "epoch=2; val_f1=0.6;"]
    milliseconds = int(time.time() * 1000)
    events = [{"timestamp": milliseconds + number, "message": line} for number, line in enumerate(lines)]
    client("logs").put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    assert ready("logs", job, "--poll-seconds", "0") == lines


def test_whatever_is_missing_is_reported_before_anything_is_created(
    run: Callable[..., list[str]], faces: Callable[..., Path]
) -> None:
    train = ("train", "--data", str(faces(people=2)), "--image", IMAGE)
    with pytest.raises(JobError, match=r"the bucket does not exist; `submit.py setup` creates it: my-bucket"):
        run(*train)
    run("setup")
    with pytest.raises(JobError, match=f"the image is not in the registry; push it with `submit.py push`: {IMAGE}"):
        run(*train)
    with pytest.raises(JobError, match=r"a file that the job needs does not exist; `submit.py status` shows whether"):
        run("transform", "--data", "s3://my-bucket/eval", "--model", "faces-1", "--image", IMAGE)
    with pytest.raises(JobError, match="no job or endpoint is called 'faces-1' in eu-west-1"):
        run("wait", "faces-1")
    with pytest.raises(JobError, match="no endpoint and no model is called 'faces-1'"):
        run("remove", "faces-1")
    assert client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert "Contents" not in client("s3").list_objects_v2(Bucket="my-bucket")


def test_a_job_that_has_ended_is_not_stopped(ready: Callable[..., list[str]]) -> None:
    put("s3://my-bucket/faces/1.jpg", b"")
    (job,) = ready("train", "--data", "s3://my-bucket/faces", "--image", IMAGE)
    with pytest.raises(JobError, match="has already ended: Completed"):
        ready("stop", job)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "unknown command 'trian' .did you mean 'train'"),
        (["transform", "--", "--epochs", "3"], "`transform` takes no arguments after --"),
        (["status"], "the name of a job is required, such as"),
        (["train"], "--role: required"),
    ],
)
def test_a_malformed_command_is_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        submit.main(words, {})


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_without_a_command_it_lists_them_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        submit.main(words, {})
    printed = capsys.readouterr().out
    for name, command in submit.COMMANDS.items():
        assert f"  {name:<12}{command.help}\n" in printed


@pytest.mark.parametrize("command", submit.COMMANDS)
def test_every_command_explains_its_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        submit.main([command, "--help"], {})
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: submit.py {command}")
    flags = re.findall(r"^  (?:-h, )?(--[\w-]+)", printed, re.MULTILINE)
    assert len(flags) == len(set(flags)) > 2


def test_mistakes_before_and_after_the_dashes_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        submit.main(["train", "--data", "http://x", "--spto", "no", "--", "--epochs", "many", "--lr", "0"], {})
    for sentence in ("--role: required", "--data: 'http://x'", "did you mean '--spot'", "'many' is not", "--lr: 0 is"):
        assert sentence in str(caught.value)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["train", "--version"]):
        with pytest.raises(SystemExit, match="0"):
            submit.main(words, {})
        assert capsys.readouterr().out == f"mask-classifier {version()}\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    with Process(
        [sys.executable, submit.__file__, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout
        command.stdout.close()
        assert command.stderr
        assert command.stderr.read() == ""
    assert command.returncode == 0


def test_it_runs_from_any_folder(tmp_path: Path) -> None:
    program = Path(submit.__file__)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(program), "wait"], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: the name of a job is required")
