"""The built image in real containers, with hand-made /opt/ml trees, as SageMaker and careful administrators run it.

    IMAGE=mask-classifier pytest -m image       IMAGE_TESTS=required makes a missing Docker or image a failure

Training takes seconds: few drawn faces, a tiny model. Nothing is pulled, and no container has a network.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.containers import HARDENED, IMAGE, QUICK, ROOT, Job, docker

pytestmark = pytest.mark.image


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.lstat().st_mode) for path in sorted(folder.iterdir())}


# from training to evaluation


@pytest.mark.parametrize(
    ("user", "options"),
    [
        pytest.param("0:0", [], id="root"),
        pytest.param("0:0", HARDENED, id="root without capabilities on a read-only disk"),
        pytest.param("12345:54321", HARDENED, id="an unknown user"),
    ],
)
def test_train_infer_and_evaluate_leave_the_files_that_sagemaker_collects(
    train_job: Job, faces: Path, user: str, options: list[str]
) -> None:
    how: dict[str, Any] = {"user": user, "options": options}
    job, output = train_job, train_job.base / "output" / "data"
    trained = job.run("train", **how)
    assert trained.returncode == 0, trained.stderr
    assert files_of(job.base / "model") == {"model.json": "-rw-r--r--", "model.safetensors": "-rw-r--r--"}
    assert (job.base / "model" / "model.json").stat().st_uid == int(user.split(":")[0])
    assert any((job.base / "checkpoints").iterdir())

    job.channel("eval", faces / "eval")
    job.channel("model", job.base / "model")
    labelled = job.run("infer", **how)
    assert labelled.returncode == 0, labelled.stderr
    given_rows = (faces / "eval" / "info.csv").read_text().splitlines()
    labelled_rows = (output / "output.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in labelled_rows] == [row.split(",")[0] for row in given_rows]

    job.channel("ground_truth", faces / "gt")
    evaluated = job.run("evaluate", **how)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads((output / "evaluation.json").read_text())["multiclass_classification_metrics"]
    assert 0 <= metrics["accuracy"]["value"] <= 1

    audited = job.run("audit", **how)
    assert audited.returncode == 0, audited.stderr
    assert files_of(output / "audit") == {"audit.csv": "-rw-r--r--", "audit.html": "-rw-r--r--"}
    assert "after a training only" not in audited.stderr, "the model and the split are found"
    assert not (job.base / "output" / "failure").exists()


def test_cross_validation_leaves_the_ensemble_of_its_folds_for_any_user(train_job: Job) -> None:
    done = train_job.run("cv", "--folds", "2", user="12345:54321")
    assert done.returncode == 0, done.stderr
    assert files_of(train_job.base / "model") == {"model.json": "-rw-r--r--", "model.safetensors": "-rw-r--r--"}
    assert len(json.loads((train_job.base / "model/model.json").read_text())["members"]) == 2
    assert {"oof.csv", "cv.json", "cv"} == {path.name for path in (train_job.base / "output/data").iterdir()}
    assert {path.name for path in (train_job.base / "checkpoints").iterdir()} == {"fold-1", "fold-2"}
    assert not (train_job.base / "output" / "failure").exists()


def test_the_same_image_is_a_processing_job(train_job: Job, faces: Path) -> None:
    job = train_job
    assert job.run("train").returncode == 0
    job.mounts = {
        "model": f"--volume={job.base}/model:/opt/ml/processing/model:ro",
        "test": f"--volume={faces}/eval:/opt/ml/processing/test:ro",
        "ground truth": f"--volume={faces}/gt:/opt/ml/processing/ground_truth:ro",
        "output": f"--volume={job.base}/output:/opt/ml/output",
    }
    job.writable("processing/predictions")
    evaluation = job.writable("processing/evaluation")
    labelled = job.run("infer")
    assert labelled.returncode == 0, labelled.stderr
    (job.base / "output" / "message").unlink(missing_ok=True)
    evaluated = job.run("evaluate")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "multiclass_classification_metrics" in json.loads((evaluation / "evaluation.json").read_text())
    assert "macro_f1=" in job.message


def test_a_processing_job_that_fails_says_why_in_its_message(job: Job) -> None:
    job.writable("processing/predictions")
    assert job.run("evaluate").returncode == 1
    assert job.message.startswith("DataError: SM_GROUND_TRUTH_DIR does not exist")
    assert job.message.endswith(": /opt/ml/processing/ground_truth")


# stopping


def test_docker_stop_within_an_epoch_saves_everything_and_the_next_start_resumes(train_job: Job) -> None:
    job = train_job
    job.config("hyperparameters", QUICK | {"epochs": "999999"})
    with job.running("train", until="epoch=2;") as container:
        processes = docker("top", container, "-o", "pid,args").stdout.splitlines()[1:]
        assert len(processes) == 1, "the command is the only process and has replaced the launcher"
        assert "/opt/job/code/train.py" in processes[0]
        started = time.monotonic()
        docker("stop", "--time=120", container)
        assert time.monotonic() - started < 20
        assert docker("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0"
    assert files_of(job.base / "model").keys() == {"model.json", "model.safetensors"}
    manifests = sorted((job.base / "checkpoints").glob("step-*.json"))
    step = json.loads(manifests[-1].read_text())["step"]

    with job.running("train", until="resumed at epoch") as container:
        assert f"after {step} steps" in docker("logs", container).stdout
        docker("stop", "--time=120", container)
        assert docker("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0"


def test_two_workers_in_a_container_without_a_network_stop_in_order(train_job: Job) -> None:
    train_job.config("hyperparameters", QUICK | {"epochs": "999999", "nproc_per_node": "2"})
    with train_job.running("train", until="epoch=2;", user="12345:54321") as container:
        started = time.monotonic()
        docker("stop", "--time=120", container)
        assert time.monotonic() - started < 40
        assert docker("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0"
    assert files_of(train_job.base / "model").keys() == {"model.json", "model.safetensors"}
    assert not (train_job.base / "output" / "failure").exists()


# errors


def test_a_bad_hyperparameter_is_named(train_job: Job) -> None:
    train_job.config("hyperparameters", QUICK | {"learning_rate": "0.1", "epochs": "three"})
    assert train_job.run("train").returncode == 2
    assert "--learning_rate" in train_job.failure[:200]
    assert "'three' is not a whole number" in train_job.failure


def test_an_empty_channel_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    job.channel("train", tmp_path / "empty")
    assert job.run("train").returncode == 1
    assert "SM_CHANNEL_TRAIN is empty" in job.failure[:200]
    assert not any((job.base / "model").iterdir())


def test_a_corrupt_image_is_named(job: Job, faces: Path, tmp_path: Path) -> None:
    shutil.copytree(faces / "train", tmp_path / "train")
    victim = sorted((tmp_path / "train" / "images").glob("*/mask1.*"))[0]
    victim.write_bytes(victim.read_bytes()[:100])
    job.channel("train", tmp_path / "train")
    assert job.run("train").returncode == 1
    assert f"{victim.parent.name}/{victim.name}" in job.failure[:200]
    assert not any((job.base / "model").iterdir())


def test_a_model_folder_that_cannot_be_written_is_named(train_job: Job) -> None:
    train_job.mounts["/opt/ml/model"] += ":ro"
    assert train_job.run("train").returncode == 1
    assert "not allowed to write" in train_job.failure[:200]
    assert "/opt/ml/model" in train_job.failure[:200]


def test_a_model_folder_that_is_full_is_named(train_job: Job) -> None:
    train_job.mounts["/opt/ml/model"] = "--tmpfs=/opt/ml/model:size=4k"
    assert train_job.run("train").returncode == 1
    assert "no space left" in train_job.failure[:200]
    assert "/opt/ml/model" in train_job.failure[:200]


def test_a_job_without_a_writable_failure_file_still_fails(job: Job, tmp_path: Path) -> None:
    job.mounts["/opt/ml/output"] += ":ro"
    ended = job.run("train", "--epochs", "none")
    assert ended.returncode == 2
    assert "--epochs" in ended.stderr


# the contract


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param(
            {
                "current_host": "algo-1",
                "current_instance_type": "ml.g5.xlarge",
                "current_group_name": "homogeneousCluster",
                "hosts": ["algo-1"],
                "instance_groups": [
                    {"instance_group_name": "homogeneousCluster", "instance_type": "ml.g5.xlarge", "hosts": ["algo-1"]}
                ],
                "network_interface_name": "eth0",
                "topology": None,
            },
            id="service",
        ),
        pytest.param({"current_host": "algo-1-x7k2p", "hosts": ["algo-1-x7k2p"]}, id="local mode of v2"),
        pytest.param(
            {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "ethwe"}, id="local mode of v3"
        ),
        pytest.param(None, id="absent"),
    ],
)
def test_every_resource_config_starts_the_job(job: Job, resources: dict[str, Any] | None) -> None:
    job.config("resourceconfig", resources)
    if resources is None:
        (job.base / "input" / "config" / "resourceconfig.json").unlink()
    assert job.run("train", "--help", user="12345:54321").returncode == 0


def test_the_stock_train_command_of_sagemaker_training_runs_the_job_too(train_job: Job) -> None:
    how: dict[str, Any] = {"options": [*HARDENED, "--entrypoint=/opt/venv/bin/train"], "user": "12345:54321"}
    train_job.config(
        "hyperparameters", QUICK | {"epochs": "999999", "name": "it's; $(id)", "sagemaker_program": "x.py"}
    )
    with train_job.running(until="epoch=1;", **how) as container:
        docker("stop", "--time=120", container)
        assert docker("inspect", "--format={{.State.ExitCode}}", container).stdout.strip() == "0"
    assert files_of(train_job.base / "model").keys() == {"model.json", "model.safetensors"}
    assert (train_job.base / "output" / "data" / "it's; $(id)").is_dir()


def test_the_default_command_is_train() -> None:
    ended = docker("run", "--rm", "--network=none", IMAGE)
    assert ended.returncode == 1
    assert "SM_CHANNEL_TRAIN does not exist" in ended.stderr
    assert ended.stderr.strip().endswith(": /opt/ml/input/data/train")


@pytest.mark.parametrize("command", ["train", "infer", "evaluate", "audit"])
def test_every_command_is_on_the_path(command: str) -> None:
    ended = docker("run", "--rm", "--network=none", f"--entrypoint={command}", IMAGE, "--help")
    assert ended.stdout.startswith(f"usage: {command}")


def test_the_image_has_its_labels_and_starts_without_a_shell() -> None:
    (found,) = json.loads(docker("image", "inspect", IMAGE).stdout)
    config = found["Config"]
    assert config["Entrypoint"] == ["/opt/venv/bin/python", "/opt/job/container/launch.py"]
    assert config["Cmd"] == ["train"]
    assert config["User"] in ("", "root", "0"), "SageMaker expects root"
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert not any(re.search("index|token|secret|password", name, re.IGNORECASE) for name in config["Env"])


def test_the_image_has_no_compiler_and_no_file_of_the_job_under_opt_ml() -> None:
    script = """
        for tool in gcc cc clang ld; do command -v $tool && exit 1; done
        for tool in bash python3 pip; do command -v $tool >/dev/null || exit 2; done
        test "$(find /opt/ml)" = "$(printf '/opt/ml\\n/opt/ml/code')" || exit 3
        test -z "$(find /opt/venv -name '*.a')" || exit 4
        test -z "$(find / -xdev -path '*/.cache/pip')" || exit 5
        test "$(find /opt/job/code -name '*.py' | wc -l)" = "$(find /opt/job/code -name '*.pyc' | wc -l)" || exit 6
    """
    ended = docker("run", "--rm", "--network=none", "--entrypoint=bash", IMAGE, "-c", script)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# compose


def test_compose_runs_every_command_as_the_user_of_the_caller(faces: Path, tmp_path: Path) -> None:
    if docker("compose", "version").returncode != 0:
        if os.environ.get("IMAGE_TESTS") == "required":
            pytest.fail("docker compose does not respond")
        pytest.skip("docker compose does not respond")
    out, user = tmp_path / "out", 23456
    for folder in ("model", "output", "checkpoints", "store"):
        (out / folder).mkdir(parents=True)
        (out / folder).chmod(0o777)
    environ = os.environ | {
        "IMAGE": IMAGE, "DATA": str(faces), "OUT": str(out), "USER_ID": str(user), "GROUP_ID": str(user)
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in QUICK.items()]
    for words in (["train", *flags], ["infer"], ["evaluate", "--bootstrap", "10"]):
        command = ["docker", "compose", "--project-directory", str(ROOT), "run", "--rm", "-T", *words]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
    left = [out / "model" / "model.safetensors", out / "output" / "data" / "evaluation.json"]
    assert {path.stat().st_uid for path in left} == {user}
