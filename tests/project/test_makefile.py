"""`make` hands on what it is given: flags to the verb, settings to the server and to compose, folders to both."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dry_run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `make` would do, with nothing of the make that started these tests."""
    command = ["make", "--dry-run", "--old-file=.venv/job", *words]
    known = {"PATH": os.environ["PATH"], "HOME": "/someone"}
    return subprocess.run(command, cwd=ROOT, env=known | environ, capture_output=True, text=True)


def line_of(done: subprocess.CompletedProcess[str], word: str) -> str:
    """The one line that starts a program."""
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if word in line]
    return line


@pytest.mark.parametrize(
    ("words", "program", "flags"),
    [
        (["train", "EPOCHS=3"], "train.py", "--epochs '3'"),
        (["train", "ARGS=--resize 96 72"], "train.py", "--resize 96 72"),
        (["train", "infer", "EPOCHS=3"], "transform.py", ""),
        (["infer", "MAX_PAYLOAD_MB=20"], "transform.py", "--max-payload-mb '20'"),
        (["infer", "BAD_INPUT=fail", "SERVE_PRECISION=bf16"], "transform.py", ""),
        (["evaluate", "BOOTSTRAP=9"], "evaluation.py", "--bootstrap '9'"),
        (["serve", "PRECISION=bf16"], "serve.py", "--precision 'bf16'"),
        (["serve", "SERVE_PRECISION=bf16", "PORT=81"], "serve.py", ""),
        (["train", "SM_MODEL_DIR=elsewhere"], "train.py", "--sm-model-dir 'elsewhere'"),  # which train.py refuses
    ],
)
def test_a_name_and_value_is_a_flag_unless_it_is_a_setting(words: list[str], program: str, flags: str) -> None:
    line = line_of(dry_run(*words, "DATA=/", "RUNTIME=host"), program)
    assert line.split(program)[1].strip() == flags


@pytest.mark.parametrize("runtime", ["host", "docker"])
def test_the_server_gets_its_port_and_its_flags_wherever_it_runs(runtime: str) -> None:
    line = line_of(dry_run("serve", "PRECISION=bf16", "PORT=81", f"RUNTIME={runtime}"), "serve")
    assert "PORT=81 " in line
    assert line.rstrip().endswith("--precision 'bf16'")


def test_the_address_of_the_server_may_be_given_as_its_own_variable() -> None:
    line = line_of(dry_run("serve", "SAGEMAKER_BIND_TO_PORT=81", "SERVE_HOST=0.0.0.0", "RUNTIME=host"), "serve.py")
    assert "SERVE_HOST=0.0.0.0 SAGEMAKER_BIND_TO_PORT=81 " in line
    line = line_of(dry_run("serve", "RUNTIME=host", SAGEMAKER_BIND_TO_PORT="82"), "serve.py")
    assert "SERVE_HOST=127.0.0.1 SAGEMAKER_BIND_TO_PORT=82 " in line


def test_settings_reach_what_make_starts() -> None:
    probe = f"include {ROOT}/Makefile\nprobe:\n\t@echo $$BAD_INPUT $$SHM_SIZE $$SERVE_PRECISION\n"
    given = ["BAD_INPUT=fail", "SHM_SIZE=2g", "SERVE_PRECISION=bf16"]
    command = ["make", "--no-print-directory", "--file=-", "probe", *given]
    done = subprocess.run(command, cwd=ROOT, input=probe, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["fail", "2g", "bf16"]


@pytest.mark.parametrize("name", ["DATA", "OUT", "DEMO"])
@pytest.mark.parametrize("target", ["train", "infer", "clean"])
def test_a_folder_with_a_space_is_refused_before_anything_is_done(target: str, name: str) -> None:
    done = dry_run(target, f"{name}=my faces", "RUNTIME=host")
    assert done.returncode == 2
    assert f"{name}=my faces: a folder with a space in its name" in done.stderr
    assert done.stdout == ""


def test_a_tilde_that_the_shell_left_is_the_home_folder() -> None:
    line = line_of(dry_run("train", "DATA=~/faces", "OUT=~/out", "RUNTIME=host"), "train.py")
    assert "SM_CHANNEL_TRAIN=/someone/faces/train" in line
    assert "SM_MODEL_DIR=/someone/out/model" in line


def test_the_demo_touches_no_results_but_its_own() -> None:
    assert "SM_CHECKPOINT_DIR=demo-out/checkpoints" in line_of(dry_run("demo"), "train.py")
    assert "SM_CHECKPOINT_DIR=mine/checkpoints" in line_of(dry_run("demo", "OUT=mine"), "train.py")
    assert "SM_CHECKPOINT_DIR=mine/checkpoints" in line_of(dry_run("demo", OUT="mine"), "train.py")
    assert "SM_CHECKPOINT_DIR=out/checkpoints" in line_of(dry_run("train", "DATA=/", "RUNTIME=host"), "train.py")


def test_the_image_is_built_as_sagemaker_takes_it() -> None:
    assert "--provenance=false --output type=docker" in line_of(dry_run("image"), "docker build")
