"""SageMaker's own SDK takes the requests of submit.py and carries them out on the real image.

    make acceptance        needs Docker and the image; a missing one is a failure, nothing is skipped

Only S3 is played: a bucket is a folder. The SDK starts the containers, mounts, feeds and collects as it always does.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score

import submit
from batch.results import join_downloaded, read_downloaded
from data.tables import write_predictions
from metrics import metric_definitions
from model_files import load

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SDK = ROOT / ".venv-acceptance" / "bin" / "python"
IMAGE = os.environ.get("IMAGE", "mask-classifier")
PLACE = ("--region", "eu-west-1", "--bucket", "faces", "--role", "arn:aws:iam::123456789012:role/sagemaker")
EPOCHS = 2
SEVERAL_LABELS = {"val_micro_f1", "val_map"}  # metrics of images with several labels alone
AT_THE_END = "val_expected_calibration_error"  # once a run, of the published model
QUICK = ("--epochs", str(EPOCHS), "--model", "TinyModel", "--resize", "32", "24", "--batch-size", "16")


@dataclass(frozen=True)
class Run:
    """How the SDK ended, and what the containers printed."""

    exit_code: int
    log: str


@dataclass(frozen=True)
class Trained:
    """A training job that is done: its name and its log."""

    job: str
    log: str


class Cloud:
    """A folder that stands for S3, and the SDK that carries out requests on it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, uri: str) -> Path:
        return self.root / uri.removeprefix("s3://")

    def plan(self, command: str, *words: object) -> dict[str, Any]:
        """The requests of a command, as `--dry-run` prints them."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            submit.main([command, "--dry-run", "--image", IMAGE, *PLACE, *map(str, words)], {})
        requests: dict[str, Any] = json.loads(printed.getvalue())
        return requests

    def upload(self, folder: Path, uri: str) -> None:
        shutil.copytree(folder, self.path(uri), dirs_exist_ok=True)

    def carry_out(self, requests: dict[str, Any]) -> Run:
        """Hand the requests to the SDK."""
        return with_sdk(HERE / "local_mode.py", self.root, free_port(), requests=json.dumps(requests))

    def artifacts(self, job: str) -> Path:
        """Where the archives of a training job lie."""
        return self.path(f"s3://faces/mask-classifier/training/{job}/output")

    def file_artifacts(self, request: dict[str, Any]) -> Path:
        """Move the archives of a training job to where SageMaker has them; local mode leaves the job's name out."""
        left: Path = self.path(request["OutputDataConfig"]["S3OutputPath"])
        filed = left / str(request["TrainingJobName"]) / "output"
        filed.mkdir(parents=True)
        for name in ("model.tar.gz", "output.tar.gz"):
            (left / name).rename(filed / name)
        return filed


def with_sdk(*words: object, requests: str = "", folder: Path = ROOT) -> Run:
    """Start Python with SageMaker's SDK, which knows neither an account nor a region."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SM_"))}
    nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), "/nonexistent")
    done = subprocess.run(
        [SDK, *map(str, words)],
        input=requests,
        cwd=folder,
        env=environ | nowhere | {"AWS_EC2_METADATA_DISABLED": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return Run(done.returncode, done.stdout)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)


def contents(archive: Path) -> dict[str, bytes]:
    """The files of an archive by name."""
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    assert SDK.exists(), "SageMaker's SDK is not installed; `make acceptance` does it"
    assert docker("info").returncode == 0, "Docker does not answer"
    assert docker("image", "inspect", IMAGE).returncode == 0, f"there is no image {IMAGE}; `make image` builds it"
    root = tmp_path_factory.mktemp("s3")
    yield Cloud(root)
    if os.getuid() != 0:  # what root in a container left, only a container can open
        docker("run", "--rm", f"--volume={root}:/left", "--entrypoint=chmod", IMAGE, "-R", "a+rwX", "/left")
    left = docker("ps", "--all", "--quiet", "--filter", "network=sagemaker-local", "--filter", f"ancestor={IMAGE}")
    for container in left.stdout.split():  # the SDK stops its containers, and keeps them
        docker("rm", "--force", container)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces: train/, eval/ and gt/."""
    folder = tmp_path_factory.mktemp("faces")
    command = [sys.executable, str(ROOT / "code/demo.py"), "--output-dir", str(folder), "--people", "18"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return folder


@pytest.fixture(scope="module")
def trained(cloud: Cloud, faces: Path) -> Trained:
    """A training job that went well."""
    requests = cloud.plan("train", "--data", faces / "train", "--", *QUICK)
    request = requests["CreateTrainingJob"]
    cloud.upload(faces / "train", request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"])
    run = cloud.carry_out(requests)
    assert run.exit_code == 0, run.log
    cloud.file_artifacts(request)
    return Trained(request["TrainingJobName"], run.log)


@pytest.fixture(scope="module")
def labelled(cloud: Cloud, faces: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output.csv that the command `infer` writes with the trained model, without a container."""
    folder = tmp_path_factory.mktemp("labelled")
    paths = {"EVAL": faces / "eval", "MODEL": cloud.artifacts(trained.job) / "model.tar.gz"}
    environ = os.environ | {f"SM_CHANNEL_{name}": str(path) for name, path in paths.items()}
    command = [sys.executable, str(ROOT / "code/inference.py"), "--device", "cpu"]
    subprocess.run(command, env=environ | {"SM_OUTPUT_DATA_DIR": str(folder)}, check=True, timeout=300)
    return folder


def test_training_completes_and_leaves_a_model_and_a_report(cloud: Cloud, trained: Trained) -> None:
    archive = cloud.artifacts(trained.job) / "model.tar.gz"
    assert set(contents(archive)) == {"model.json", "model.safetensors"}
    load(archive)
    output = contents(cloud.artifacts(trained.job) / "output.tar.gz")
    assert "data/exp/report/report.html" in output
    assert "failure" not in output


def test_each_metric_definition_finds_its_values_in_the_real_log(cloud: Cloud, trained: Trained) -> None:
    lines = contents(cloud.artifacts(trained.job) / "output.tar.gz")["data/exp/metrics.jsonl"].splitlines()
    history = [json.loads(line) for line in lines]
    for definition in metric_definitions():
        found = [float(text) for text in re.findall(definition["Regex"], trained.log)]
        name = definition["Name"].replace(":", "_")
        if name in SEVERAL_LABELS:
            assert not found, definition
            continue
        if name == AT_THE_END:
            model = json.loads(contents(cloud.artifacts(trained.job) / "model.tar.gz")["model.json"])
            assert found == pytest.approx([model["metrics"][name.removeprefix("val_")]], rel=1e-3, abs=1e-4)
            continue
        assert len(found) == EPOCHS, definition
        if name != "images_per_second":  # the speed is in the log alone
            assert found == pytest.approx([row[name] for row in history], rel=1e-3, abs=1e-4), definition


def test_a_job_on_two_instances_trains_one_model(cloud: Cloud, faces: Path) -> None:
    how = ("--prefix", "two", "--instance-count", 2)
    requests = cloud.plan("train", "--data", faces / "train", *how, "--", *QUICK)
    request = requests["CreateTrainingJob"]
    cloud.upload(faces / "train", request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"])
    run = cloud.carry_out(requests)
    assert run.exit_code == 0, run.log
    left = cloud.file_artifacts(request)
    assert set(contents(left / "model.tar.gz")) == {"model.json", "model.safetensors"}
    assert "failure" not in contents(left / "output.tar.gz")
    assert run.log.count("1 worker on each of 2 hosts: algo-1-") == 2, "each host says so"
    assert len(re.findall(r"\bepoch=\d+;", run.log)) == EPOCHS, "one host alone writes metrics"


def test_a_job_trains_from_a_manifest_in_its_channel_and_validates_with_a_channel(
    cloud: Cloud, faces: Path, tmp_path: Path
) -> None:
    train, validation = with_manifest(faces, tmp_path)
    how = ("--prefix", "manifest", "--validation-data", validation)
    requests = cloud.plan("train", "--data", train, *how, "--", *QUICK)
    request = requests["CreateTrainingJob"]
    uris = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request["InputDataConfig"]
    }
    assert set(uris) == {"train", "validation"}
    cloud.upload(train, uris["train"])
    cloud.upload(validation, uris["validation"])
    run = cloud.carry_out(requests)
    assert run.exit_code == 0, run.log
    left = cloud.file_artifacts(request)
    assert json.loads(contents(left / "model.tar.gz")["model.json"])["scheme"]["classes"] == ["incorrect", "normal"]
    output = contents(left / "output.tar.gz")
    split = list(csv.DictReader(io.StringIO(output["data/exp/split.csv"].decode())))
    parts = {part: {row["path"] for row in split if row["split"] == part} for part in ("train", "val")}
    assert parts["train"] == {path.relative_to(train).as_posix() for path in train.rglob("*.jpg")}
    assert parts["val"] == {path.relative_to(validation).as_posix() for path in validation.rglob("*.jpg")}
    assert "found manifest: " in run.log


def with_manifest(faces: Path, root: Path) -> tuple[Path, Path]:
    """Return a folder with images and a manifest of Ground Truth, and one of other people in class folders."""
    names, people = (
        {"incorrect_mask.jpg": "incorrect", "normal.jpg": "normal"},
        sorted((faces / "train/images").iterdir()),
    )
    train, validation, lines = root / "train", root / "validation", []
    for number, person in enumerate(people):
        for file, name in names.items():
            if number < len(people) // 3:
                target = validation / name / f"{person.name}.jpg"
            else:
                target = train / "photos" / person.name / file
                about = {"class-name": name, "type": "groundtruth/image-classification", "human-annotated": "yes"}
                key = target.relative_to(train).as_posix()
                lines.append(json.dumps({"source-ref": f"s3://faces/{key}", "mask": 0, "mask-metadata": about}))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(person / file, target)
    (train / "output.manifest").write_text("\n".join(lines))
    return train, validation


def test_a_bad_hyperparameter_fails_with_our_sentence_as_the_reason(cloud: Cloud, faces: Path) -> None:
    requests = cloud.plan("train", "--data", faces / "train", "--prefix", "bad")
    request = requests["CreateTrainingJob"]
    cloud.upload(faces / "train", request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"])
    request["HyperParameters"] = {"epochs": "three", "learning_rate": "0.1"}  # submit.py lets neither through
    run = cloud.carry_out(requests)
    assert run.exit_code == 1, run.log
    left = cloud.file_artifacts(request)
    reason = contents(left / "output.tar.gz")["failure"]
    assert len(reason) <= 1024
    assert reason.decode().startswith("ConfigError: unknown argument '--learning_rate'")
    assert "--epochs: 'three' is not a whole number" in reason.decode()
    assert contents(left / "model.tar.gz") == {}


def test_evaluation_writes_the_schema_of_model_quality(cloud: Cloud, faces: Path, labelled: Path) -> None:
    folders = ("--predictions", labelled, "--ground-truth", faces / "gt")
    requests = cloud.plan("evaluate", *folders, "--", "--bootstrap", "50")
    request = requests["CreateProcessingJob"]
    for given, folder in zip(request["ProcessingInputs"], (labelled, faces / "gt"), strict=True):
        cloud.upload(folder, given["S3Input"]["S3Uri"])
    run = cloud.carry_out(requests)
    assert run.exit_code == 0, run.log

    (output,) = request["ProcessingOutputConfig"]["Outputs"]
    report = json.loads((cloud.path(output["S3Output"]["S3Uri"]) / "evaluation.json").read_text())
    metrics = report["multiclass_classification_metrics"]
    expected = ("accuracy", "weighted_precision", "weighted_recall", "weighted_f1", "macro_f1")
    assert set(expected) <= set(metrics)
    assert all(set(metrics[name]) == {"value", "standard_deviation"} for name in expected)
    truth, answer = (rows(folder / name) for folder, name in ((faces / "gt", "gt.csv"), (labelled, "output.csv")))
    truths, answers = [truth[name] for name in truth], [answer[name] for name in truth]
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(truths, answers))
    assert metrics["macro_f1"]["value"] == pytest.approx(
        f1_score(truths, answers, labels=[str(number) for number in range(18)], average="macro", zero_division=0)
    )
    assert f"macro_f1={metrics['macro_f1']['value']:.4f};" in run.log


def test_a_transform_answers_every_object_as_the_infer_verb_does(
    cloud: Cloud, faces: Path, trained: Trained, labelled: Path, tmp_path: Path
) -> None:
    requests = cloud.plan("transform", "--model", trained.job, "--data", faces / "eval" / "images")
    request = requests["CreateTransformJob"]
    cloud.upload(faces / "eval" / "images", request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
    run = cloud.carry_out(requests)
    assert run.exit_code == 0, run.log
    answers = sorted(cloud.path(request["TransformOutput"]["S3OutputPath"]).rglob("*.out"))
    images = sorted(path.name for path in (faces / "eval" / "images").iterdir())
    assert [path.name.removesuffix(".out") for path in answers] == images
    table = join_downloaded(*read_downloaded({path.name: path for path in answers}, faces / "eval" / "info.csv"))
    output = write_predictions(tmp_path, table, None)
    assert rows(output) == rows(labelled / "output.csv")


def test_an_endpoint_answers_an_image_and_is_removed(
    cloud: Cloud, faces: Path, trained: Trained, labelled: Path
) -> None:
    name, label = next(iter(rows(labelled / "output.csv").items()))
    requests = cloud.plan("deploy", "--model", trained.job)
    endpoint = requests["CreateEndpoint"]["EndpointName"]
    image = {"EndpointName": endpoint, "Body": str(faces / "eval" / "images" / name), "ContentType": "image/jpeg"}
    run = cloud.carry_out(requests | {"InvokeEndpoint": image, "DeleteEndpoint": {"EndpointName": endpoint}})
    assert run.exit_code == 0, run.log
    (answer,) = re.findall(r"^answer: (.*)$", run.log, re.MULTILINE)
    assert json.loads(answer)["prediction"] == int(label)


def test_the_lines_for_the_sdk_in_the_readme_train_with_the_image(cloud: Cloud, faces: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "container/README.md").read_text(), re.DOTALL)
    (lines,) = [block for block in blocks if "ModelTrainer" in block]
    folder = cloud.root / "sdk"
    folder.mkdir()
    (folder / "demo").symlink_to(faces)
    run = with_sdk("-c", lines.replace('"mask-classifier"', repr(IMAGE)), folder=folder)
    assert run.exit_code == 0, run.log
    assert set(contents(folder / "compressed_artifacts" / "model.tar.gz")) == {"model.json", "model.safetensors"}


def rows(table: Path) -> dict[str, str]:
    """ImageID -> ans."""
    with table.open(newline="") as file:
        return {row["ImageID"]: row["ans"] for row in csv.DictReader(file)}
