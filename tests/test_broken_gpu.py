"""A GPU that CUDA cannot use ends every command that would compute on it, before any work is done.

The commands run with torch's real CUDA libraries on a driver library that fails; SM_NUM_GPUS says that there is a GPU.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.drivers import COMPILER, NEW_VERSION, OLD_VERSION, make_driver

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "train": ["code/train.py"],
    "infer": ["code/inference.py"],
    "serve": ["container/serve.py", "--port", "0"],
    "image": ["container/launch.py", "train"],
}
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a driver library with")
Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    """Run a command with a driver library whose cuInit fails; its folders are those of the test, and empty."""

    def start(command: str, init: int, version: int = NEW_VERSION, **variables: str) -> Ended:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "CUDA_", "SERVE_"))}
        environ |= {
            "LD_LIBRARY_PATH": str(make_driver(tmp_path / "driver", version, init).parent),
            "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}",
            "SAGEMAKER_BASE_DIR": str(tmp_path / "opt_ml"),
            "SM_OUTPUT_DIR": str(tmp_path),
            "SM_MODEL_DIR": str(tmp_path / "model"),
            "SM_NUM_GPUS": "1",
        }
        script, *flags = COMMANDS[command]
        line = [sys.executable, str(ROOT / script), *flags]
        return subprocess.run(
            line, env=environ | variables, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return start


@pytest.mark.parametrize(
    ("command", "init", "meaning"),
    [
        pytest.param(
            *("train", 804, "forward compatibility was attempted on non supported HW"),
            marks=pytest.mark.slow,  # the image starts train.py, too
        ),
        ("infer", 803, "system has unsupported display driver / cuda driver combination"),
        ("serve", 999, "unknown error"),
        ("image", 46, "CUDA-capable device(s) is/are busy or unavailable"),
    ],
)
def test_a_broken_driver_is_one_sentence_with_its_number(
    run: Callable[..., Ended], tmp_path: Path, command: str, init: int, meaning: str
) -> None:
    ended = run(command, init)
    sentence = f"DeviceError: the GPU of this host cannot be used (CUDA error {init}: {meaning})"
    assert ended.returncode == 1
    assert (tmp_path / "failure").read_text().startswith(sentence)
    assert ended.stderr.count("\n") == 1, "torch's warning would say the same in other words"
    assert "--device cpu (serve: SERVE_DEVICE=cpu)" in ended.stderr
    assert ("its cuInit returns error 46" in ended.stdout) == (command == "image")


def test_a_driver_that_is_too_old_names_the_one_that_is_needed(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("image", 0, OLD_VERSION)
    assert ended.returncode == 1
    reason = (tmp_path / "failure").read_text()
    assert "(CUDA error 35: " in reason
    assert "the driver offers 11.4 and PyTorch needs 12.0); install driver 525 or newer" in reason
    assert "TransformAmiVersion" in reason


@pytest.mark.parametrize(
    "way_out",
    [
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, marks=pytest.mark.slow),
        {"CUDA_VISIBLE_DEVICES": "-1"},
        {"SERVE_DEVICE": "cpu"},
    ],
)
def test_the_server_computes_on_the_cpu_where_that_is_asked_for(
    run: Callable[..., Ended], tmp_path: Path, way_out: dict[str, str]
) -> None:
    ended = run("serve", 999, **way_out)
    assert "SM_MODEL_DIR" in ended.stderr, "the next thing that is missing is the model"
    assert "GPU" not in ended.stderr
