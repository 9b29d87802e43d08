"""The command train.py: arguments of the original, messages, failure file, signals."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_files import load
from support.preloaded import Preloaded, completed

CODE = Path(__file__).parents[1] / "code"
Faces = Callable[..., Path]


def command(arguments: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environ}
    line = [sys.executable, "-W", "error", str(CODE / "train.py"), *arguments]
    return completed(line, environment)


SMALL = ["--epochs", "1", "--batch_size", "16", "--resize", "32", "24", "--val_ratio", "0.5"]


def test_the_command_of_the_original_runs_verbatim(faces: Faces, tmp_path: Path) -> None:
    faces()
    done = command(
        SMALL,
        SM_CHANNEL_TRAIN=str(tmp_path / "train"),
        SM_MODEL_DIR=str(tmp_path / "m"),
        SM_OUTPUT_DATA_DIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "val_f1=" in done.stdout
    assert load(tmp_path / "m")[1].architecture == "BaseModel"


def test_mistakes_are_sentences_on_stderr_and_in_the_failure_file(tmp_path: Path) -> None:
    done = command(
        ["--epochs", "many", "--criterion", "focl"],
        SM_CHANNEL_TRAIN=str(tmp_path / "none"),
        SM_OUTPUT_DIR=str(tmp_path / "out"),
    )
    assert done.returncode == 2
    assert "'many' is not a whole number" in done.stderr
    assert "did you mean 'focal'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out/failure").read_text().startswith("ConfigError: --criterion")


def test_a_missing_channel_is_one_sentence(tmp_path: Path) -> None:
    done = command([], SM_CHANNEL_TRAIN=str(tmp_path / "none"), SM_MODEL_DIR=str(tmp_path / "model"))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("DataError: SM_CHANNEL_TRAIN does not exist")
    assert not (tmp_path / "model").exists()


def environment_of(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a training whose folders are in one folder, without a checkpoint folder."""
    folders = {
        "SM_CHANNEL_TRAIN": str(folder / "train"),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output"),
    }
    return {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | folders | more


def test_sigterm_saves_publishes_and_leaves_with_zero(faces: Faces, tmp_path: Path) -> None:
    faces()
    environment = environment_of(tmp_path, SM_CHECKPOINT_DIR=str(tmp_path / "checkpoints"))
    line = [sys.executable, str(CODE / "train.py"), *SMALL, "--epochs", "100000", "--model", "TinyModel"]
    with Preloaded(line, environment) as process:
        for output in process.stdout:
            if output.startswith("epoch=2;"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
        assert process.wait(30) == 0, rest
    assert "stopped, and can be resumed" in rest
    load(tmp_path / "model")
    assert list((tmp_path / "checkpoints").glob("step-*.json"))


def test_a_stopped_run_without_a_checkpoint_folder_names_what_resumes_it(faces: Faces, tmp_path: Path) -> None:
    faces()
    environment = environment_of(tmp_path, SM_OUTPUT_DATA_DIR=str(tmp_path / "my output"))
    line = [sys.executable, str(CODE / "train.py"), *SMALL, "--epochs", "100000", "--model", "TinyModel"]
    flags = ["--checkpoint-dir", str(tmp_path / "my output/exp/checkpoints")]

    def stopped(*more: str) -> list[str]:
        with Preloaded([*line, *more], environment) as process:
            output = ""
            for printed in process.stdout:
                output += printed
                if printed.startswith("epoch="):
                    process.send_signal(signal.SIGTERM)
                    break
            output += process.stdout.read()
            assert process.wait(30) == 0, output
        return output.splitlines()

    first, second, third = stopped(), stopped(), stopped(*flags)
    assert first[-1].startswith(f"stopped, and can be resumed by the same command with {shlex.join(flags)}: best epoch")
    warning = (
        "warning: this run starts from scratch, and an earlier one is not finished; to resume that one, add "
        f"{shlex.join(flags)}"
    )
    assert [run.count(warning) for run in (first, second, third)] == [0, 1, 0]
    assert "my output/exp2/checkpoints" in second[-1]
    assert [text for text in third if text.startswith("resumed at epoch")]


@pytest.mark.parametrize("redirection", [">&- 2>&-", pytest.param("| head -1", marks=pytest.mark.slow)])
def test_the_model_is_published_if_nobody_reads_the_log(faces: Faces, tmp_path: Path, redirection: str) -> None:
    faces()
    environ = {"SM_CHANNEL_TRAIN": str(tmp_path / "train"), "SM_MODEL_DIR": str(tmp_path / "m")}
    line = f'"$@" {redirection}'
    words = ["bash", "-o", "pipefail", "-c", line, "-", sys.executable, str(CODE / "train.py"), *SMALL]
    done = subprocess.run(words, env=os.environ | environ, cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    load(tmp_path / "m")


UNKNOWN_USER = ["unshare", "--user", "--map-user=12345"]  # a number that is not in /etc/passwd


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["bash", "-c", '"$@" true', "-", *UNKNOWN_USER], capture_output=True, check=False).returncode != 0,
    reason="needs user namespaces",
)
def test_a_user_without_a_name_or_a_home_folder_can_train_and_infer(faces: Faces, tmp_path: Path) -> None:
    faces()
    environ = {
        "PATH": os.environ["PATH"],
        "SM_CHANNEL_TRAIN": str(tmp_path / "train"),
        "SM_CHANNEL_EVAL": str(next((tmp_path / "train").rglob("normal.jpg")).parent),
        "SM_CHANNEL_MODEL": str(tmp_path / "m"),
        "SM_MODEL_DIR": str(tmp_path / "m"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
    }
    for command, flags in (("train", SMALL), ("inference", [])):
        words = [*UNKNOWN_USER, sys.executable, str(CODE / f"{command}.py"), *flags]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "output/output.csv").exists()
