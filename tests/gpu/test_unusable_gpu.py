"""A GPU that cannot be used, or not in the way that was asked for, is one sentence and an exit code in every command.

tests/test_broken_gpu.py has broken drivers below CUDA's real runtime library; here the driver may also start and CUDA
fail later, and the GPU may be too old.
"""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpu.black_images import black_eval, black_faces
from gpu.standin.run import Done, Settings, run_on_standin
from support.serving import publish_model

COMMANDS = {
    "train": ["code/train.py", "--model", "TinyModel", "--resize", "32", "24", "--batch-size", "14"],
    "infer": ["code/inference.py"],
    "serve": ["container/serve.py", "--port", "0"],
}
GPUS: Mapping[str, tuple[Settings, list[str], str]] = {
    "804": (Settings(count_error=804), [], "CUDA error 804: forward compatibility was attempted on non supported HW"),
    "803": (Settings(count_error=803), [], "CUDA error 803: system has unsupported display driver"),
    "999": (Settings(count_error=999), [], "CUDA error 999: unknown error"),
    "46": (Settings(count_error=46), [], "CUDA error 46: CUDA-capable device(s) is/are busy or unavailable"),
    "35": (Settings(count_error=35, driver=11040), [], "the driver offers 11.4 and PyTorch needs 12.0"),
    "Pascal": (Settings(capability=61), [], "has compute capability 6.1, and this PyTorch has kernels for 7.0, "),
    "bf16 on a T4": (Settings(capability=75), ["--precision", "bf16"], "--precision bf16 needs a GPU with compute"),
}
QUICK = {("train", "46"), ("serve", "35"), ("train", "Pascal"), ("infer", "Pascal"), ("serve", "bf16 on a T4")}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in itertools.product(COMMANDS, GPUS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create images to train on and to label, and a model."""
    folder = tmp_path_factory.mktemp("unusable")
    black_faces(folder / "train" / "images", 6)
    black_eval(folder / "eval", 4)
    publish_model(folder / "model")
    return folder


def run(folder: Path, output: Path, command: str, flags: list[str], gpu: Settings) -> Done:
    environ = {
        "SM_NUM_GPUS": "1",
        "SM_CHANNEL_TRAIN": str(folder / "train"),
        "SM_CHANNEL_EVAL": str(folder / "eval"),
        "SM_CHANNEL_MODEL": str(folder / "model"),
        "SM_MODEL_DIR": str(output / "model" if command == "train" else folder / "model"),
        "SM_OUTPUT_DATA_DIR": str(output / "data"),
        "SM_OUTPUT_DIR": str(output),
        "SERVE_HOST": "127.0.0.1",
    }
    return run_on_standin([sys.executable, "-W", "error", *COMMANDS[command], *flags], environ, **gpu)


@pytest.mark.parametrize(("command", "case"), CASES)
def test_it_is_one_sentence(folder: Path, tmp_path: Path, command: str, case: str) -> None:
    gpu, flags, expected = GPUS[case]
    done = run(folder, tmp_path, command, flags, gpu)
    assert done.returncode == (2 if flags else 1), done.stdout + done.stderr
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.counters["kernels"] == 0
    assert not (tmp_path / "model").exists() or not any((tmp_path / "model").iterdir())
    assert expected in (tmp_path / "failure").read_text()


@pytest.mark.parametrize(("capability", "product"), [(75, "fp16"), (80, "bf16")])
def test_the_number_format_is_one_that_the_gpu_has(folder: Path, tmp_path: Path, capability: int, product: str) -> None:
    done = run(folder, tmp_path, "train", [], Settings(capability=capability))
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = " ".join(name for name in done.counters if name.startswith("kernel "))
    assert ("BFloat16" in kernels) == (product == "bf16")
    assert ("4Half" in kernels) == (product == "fp16")
