"""The job under the real `train` command of sagemaker-training, in both of its modes.

Script mode is what SAGEMAKER_PROGRAM=train.py asks for: /opt/ml/code/train.py in a child process, without the launcher.
Module mode is what the image asks for: the launcher, called inside the stock `train`.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STOCK_TRAIN = Path(sys.executable).with_name("train")
SCRIPT_MODE = {"SAGEMAKER_PROGRAM": "train.py", "SM_STUDIO_LOCAL_MODE": "true"}  # the latter: no wait for DNS names
MODULE_MODE = {"SAGEMAKER_TRAINING_MODULE": "launch:main", "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}"}
MODES = pytest.mark.parametrize("mode", [SCRIPT_MODE, MODULE_MODE], ids=["script", "module"])
QUICK = {
    "epochs": "1",
    "batch_size": '"16"',
    "resize": "[32, 24]",
    "model": '"TinyModel"',
    "val_ratio": "0.5",
    "deterministic": "True",
    "device": "cpu",
    "sagemaker_region": '"eu-west-1"',
    "_tuning_objective_metric": "val_f1",
}


@pytest.fixture
def opt_ml(tmp_path: Path) -> Path:
    """Create the tree of a training job as SageMaker does, with an empty channel."""
    base = tmp_path / "opt_ml"
    for folder in ("input/config", "input/data/train", "model", "output"):
        (base / folder).mkdir(parents=True)
    (base / "code").symlink_to(ROOT / "code")
    resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    write_config(base, "resourceconfig", resources)
    write_config(base, "inputdataconfig", {"train": {"TrainingInputMode": "File"}})
    write_config(base, "hyperparameters", QUICK)
    return base


def write_config(base: Path, name: str, content: Mapping[str, object]) -> None:
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


def stock_train(base: Path, mode: dict[str, str]) -> int:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_"))}
    environ |= {"SAGEMAKER_BASE_DIR": str(base), "OMP_NUM_THREADS": "1", **mode}
    with (base / "log").open("w") as log:
        return subprocess.run([STOCK_TRAIN], env=environ, stdout=log, timeout=300).returncode


@pytest.mark.parametrize(
    "mode", [SCRIPT_MODE, pytest.param(MODULE_MODE, marks=pytest.mark.slow)], ids=["script", "module"]
)
def test_the_stock_train_command_leaves_a_model(opt_ml: Path, faces: Callable[..., Path], mode: dict[str, str]) -> None:
    faces(folder="opt_ml/input/data/train/images")
    assert stock_train(opt_ml, mode) == 0
    assert not (opt_ml / "output" / "failure").exists()
    files = {path.name: path.lstat() for path in (opt_ml / "model").iterdir()}
    assert files.keys() == {"model.safetensors", "model.json"}
    assert {stat.filemode(found.st_mode) for found in files.values()} == {"-rw-r--r--"}
    assert (opt_ml / "output" / "data" / "exp" / "metrics.jsonl").is_file()


@pytest.mark.slow
@MODES
def test_several_workers_train_under_the_stock_command(
    opt_ml: Path, faces: Callable[..., Path], mode: dict[str, str]
) -> None:
    faces(folder="opt_ml/input/data/train/images")
    write_config(opt_ml, "hyperparameters", QUICK | {"nproc_per_node": "2"})
    assert stock_train(opt_ml, mode) == 0
    assert {path.name for path in (opt_ml / "model").iterdir()} == {"model.safetensors", "model.json"}
    log = (opt_ml / "log").read_text()
    assert "2 workers on this host" in log
    assert "Gloo" not in log, "a library that every worker uses prints a line, which is not for users"


@MODES
def test_the_reason_of_a_failure_reaches_sagemaker(opt_ml: Path, mode: dict[str, str]) -> None:
    write_config(opt_ml, "hyperparameters", {"epoch": "3"})
    assert stock_train(opt_ml, mode) != 0
    failure = (opt_ml / "output" / "failure").read_text()
    assert failure.startswith("ConfigError: unknown argument '--epoch' (did you mean '--epochs'?)")


def test_an_empty_channel_is_named(opt_ml: Path) -> None:
    assert stock_train(opt_ml, MODULE_MODE) != 0
    assert (opt_ml / "output" / "failure").read_text().startswith("DataError: SM_CHANNEL_TRAIN is empty")


def test_a_job_without_a_failure_file_still_fails(opt_ml: Path) -> None:
    # In script mode sagemaker-training exits with 0 in this case, and no script can change that.
    (opt_ml / "output").rmdir()
    (opt_ml / "output").write_text("a file where the folder should be")
    write_config(opt_ml, "hyperparameters", {"epoch": "3"})
    assert stock_train(opt_ml, MODULE_MODE) == 2
