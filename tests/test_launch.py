"""The launcher rejects wrong arguments, prepares the environment, and becomes the command."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import launch
from commands import COMMANDS
from contract import base_dir
from runtime.errors import ConfigError
from runtime.version import NAME, version
from support.launching import HOSTILE, Start, launcher, training_tree, write_config
from support.processes import Process

ROOT = Path(__file__).parents[1]


@pytest.fixture
def opt_ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with training_tree(tmp_path / "opt_ml", monkeypatch) as base:
        yield base


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Start:
    return launcher(monkeypatch)


@pytest.fixture
def job(opt_ml: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the launcher as a real process, next to a train.py that is given as text."""
    (tmp_path / "job" / "container").mkdir(parents=True)
    (tmp_path / "job" / "code").mkdir()
    for name in ("launch.py", "commands.py", "contract.py", "cuda_driver.py"):
        shutil.copy(ROOT / "container" / name, tmp_path / "job" / "container")

    def start(*words: str, script: str = "", command: str = "container/launch.py") -> subprocess.Popen[str]:
        (tmp_path / "job" / "code" / "train.py").write_text(script)
        (tmp_path / "job" / "code" / "evaluation.py").touch()
        program = tmp_path / "job" / command
        environ = os.environ | {"PYTHONPATH": f"{ROOT / 'code'}:{tmp_path}/job/container"}
        process = Process([sys.executable, program, *words], env=environ, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        return process

    with contextlib.ExitStack() as stack:
        yield start


def test_the_command_replaces_the_launcher(opt_ml: Path, job: Callable[..., subprocess.Popen[str]]) -> None:
    write_config(opt_ml, "hyperparameters", {"name": HOSTILE})
    script = (
        "import os, sys, json; print(json.dumps([os.getpid(), sys.argv[1:], os.environ['SM_HP_NAME']])); sys.exit(7)"
    )
    process = job("train", "--epochs", "2", script=script)
    printed = process.communicate(timeout=60)[0].splitlines()
    assert json.loads(printed[-1]) == [process.pid, [f"--name={HOSTILE}", "--epochs", "2"], HOSTILE]
    assert process.returncode == 7


def test_sigterm_reaches_the_command(job: Callable[..., subprocess.Popen[str]]) -> None:
    script = "import signal; signal.signal(15, lambda *_: exit(9)); print('ready', flush=True); signal.pause()"
    process = job("train", script=script)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "ready":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 9


def test_a_link_with_the_name_of_a_command_starts_it(tmp_path: Path, job: Callable[..., subprocess.Popen[str]]) -> None:
    (tmp_path / "job" / "bin").mkdir()
    (tmp_path / "job" / "bin" / "train").symlink_to("../container/launch.py")
    process = job("--epochs", "2", script="import sys; print(sys.argv[1:])", command="bin/train")
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "['--epochs', '2']"


def test_another_executable_of_the_image_is_started_unchanged(job: Callable[..., subprocess.Popen[str]]) -> None:
    process = job("printf", "%s|", "a b", "--epochs=3")
    assert process.communicate(timeout=60)[0] == "a b|--epochs=3|"
    assert process.returncode == 0


def test_the_failure_file_says_why_arguments_were_rejected(
    opt_ml: Path, job: Callable[..., subprocess.Popen[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    write_config(opt_ml, "hyperparameters", {"epoch": "3"})
    process = job("train", script="raise AssertionError('started anyway')")
    process.communicate(timeout=60)
    failure = (opt_ml / "output" / "failure").read_text()
    assert process.returncode == 2
    assert failure.startswith("ConfigError: unknown argument '--epoch' (did you mean '--epochs'?)")
    assert capfd.readouterr().err.strip() == failure


def test_the_failure_of_an_earlier_run_does_not_hide_that_of_this_one(
    opt_ml: Path, job: Callable[..., subprocess.Popen[str]]
) -> None:
    failure = opt_ml / "output" / "failure"
    failure.parent.mkdir()
    failure.write_text("DataError: an earlier reason")
    write_config(opt_ml, "hyperparameters", {"epochs": "nine"})
    job("train").communicate(timeout=60)
    assert failure.read_text().startswith("ConfigError: --epochs: 'nine'")


@pytest.mark.parametrize(
    ("words", "sentence"), [([], "no command given; choose from"), (["tran"], "did you mean 'train'")]
)
def test_an_unknown_command_is_rejected(opt_ml: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        launch.launch(["launch.py", *words])


@pytest.mark.parametrize("command", ["train", "infer", "evaluate", "audit"])
def test_an_unknown_flag_is_rejected_before_the_command_starts(opt_ml: Path, started: Start, command: str) -> None:
    with pytest.raises(ConfigError, match="unknown argument '--nonsense'"):
        launch.launch(["launch.py", command, "--nonsense", "3"])


def test_a_processing_job_says_why_it_was_rejected(opt_ml: Path, started: Start) -> None:
    (opt_ml / "config").mkdir()
    (opt_ml / "config" / "processingjobconfig.json").write_text("{}")
    with pytest.raises(ConfigError):
        launch.launch(["launch.py", "evaluate", "--nonsense", "3"])
    assert os.environ["SM_MESSAGE_FILE"] == f"{opt_ml}/output/message"


def test_an_empty_variable_of_a_folder_counts_as_unset(
    opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (opt_ml / "input" / "data" / "train").rename(opt_ml / "input" / "data" / "training")
    expected = {
        "SM_CHANNEL_TRAIN": f"{opt_ml}/input/data/training",
        "SM_MODEL_DIR": f"{opt_ml}/model",
        "SM_OUTPUT_DIR": f"{opt_ml}/output",
        "SM_OUTPUT_DATA_DIR": f"{opt_ml}/output/data",
        "SM_CHECKPOINT_DIR": f"{opt_ml}/checkpoints",
    }
    for name in expected:
        monkeypatch.setenv(name, "")
    environ = started("train").environ
    assert {name: environ[name] for name in expected} == expected
    assert base_dir({"SAGEMAKER_BASE_DIR": ""}) == Path("/opt/ml")


def test_an_empty_number_of_gpus_means_none(opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_NUM_GPUS", "")
    assert started("train").environ["SM_NUM_GPUS"] == ""


def test_the_command_knows_how_many_gpus_the_host_has(
    opt_ml: Path, started: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A10G'\necho 'GPU 1: NVIDIA A10G'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert started("train").environ["SM_NUM_GPUS"] == "2"


def test_the_command_gets_the_libraries_that_the_driver_needs(
    opt_ml: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "driver_variables", lambda environ: {"LD_LIBRARY_PATH": "/compat"})
    assert started("train").environ["LD_LIBRARY_PATH"] == "/compat"


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["evaluate", "--version"]])
def test_the_version_is_printed_with_and_without_a_command(
    job: Callable[..., subprocess.Popen[str]], words: list[str]
) -> None:
    process = job(*words)
    assert process.communicate(timeout=60)[0] == f"{NAME} {version()}\n"
    assert process.returncode == 0


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_without_a_command_lists_them_all(job: Callable[..., subprocess.Popen[str]], word: str) -> None:
    process = job(word)
    printed = process.communicate(timeout=60)[0]
    assert all(f"  {name:<12}{command.help}\n" in printed for name, command in COMMANDS.items())
    assert process.returncode == 0


def test_help_exits_with_zero(job: Callable[..., subprocess.Popen[str]]) -> None:
    process = job("train", "--help")
    assert "--epochs" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
