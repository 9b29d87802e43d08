"""The commands from end to end on a GPU, with warnings as errors: train, kill, resume, infer, serve."""

import csv
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from gpu.black_images import black_eval, black_faces
from gpu.interrupted import train_killed_once
from gpu.standin.run import Settings, read_counters, run_on_standin, standin_environ
from support.serving import running, server_command

PYTHON = [sys.executable, "-W", "error"]
T4, H100 = Settings(capability=75), Settings(capability=90)
RUNS = {
    "bf16": (H100, "--optimizer AdamW --augmentation StrongAugmentation --ema-decay 0.9 --mixup 0.2 --head factored"),
    "fp16": (T4, "--optimizer SGD --augmentation CustomAugmentation --cutmix 1 --clip-norm 1 --sampler balanced"),
}
FLAGS = "--model TinyModel --epochs 3 --batch-size 14 --resize 32 24 --checkpoint-steps 1 --log-interval 1 --threads 1"


@dataclass(frozen=True)
class Trained:
    """A training that was killed and resumed: its folder, its GPU, and what the second process printed."""

    folder: Path
    gpu: Settings
    output: str


def job_folders(folder: Path) -> Mapping[str, str]:
    """Return the environment variables of a job in `folder`."""
    return {
        "SM_CHANNEL_TRAIN": str(folder / "train"),
        "SM_CHANNEL_EVAL": str(folder / "eval"),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_CHANNEL_MODEL": str(folder / "model"),
        "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output"),
        "SM_OUTPUT_DIR": str(folder / "failure"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module", params=["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train, kill the process after the checkpoint of a step, and resume it to the end."""
    gpu, flags = RUNS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    black_faces(folder / "train" / "images")
    black_eval(folder / "eval", 20)
    command = [*PYTHON, "code/train.py", *FLAGS.split(), *flags.split()]
    resumed = train_killed_once(command, job_folders(folder), folder / "counters", **gpu)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    return Trained(folder, gpu, resumed.stdout)


def test_training_that_was_killed_resumes_and_finishes(trained: Trained) -> None:
    assert "resumed at epoch" in trained.output
    assert "finished: best epoch" in trained.output
    assert (trained.folder / "model" / "model.safetensors").exists()


def test_inference_labels_every_image(trained: Trained) -> None:
    done = run_on_standin([*PYTHON, "code/inference.py"], job_folders(trained.folder), **trained.gpu)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.counters["kernels"] > 0
    with (trained.folder / "output" / "output.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 20


def test_the_server_responds(trained: Trained, tmp_path: Path) -> None:
    counters = tmp_path / "counters"
    command = server_command(trained.folder / "model", SERVE_DEVICE="cuda", SERVE_THREADS=1)
    command["env"] |= standin_environ(counters, **trained.gpu)
    image = io.BytesIO()
    Image.new("RGB", (48, 64)).save(image, "JPEG")
    with running(trained.folder / "model", command=command, is_new=True) as server:
        before = read_counters(counters)
        assert before["cuDNN plans"] > 0, "the model was warmed up"
        response = server.post(image.getvalue(), **{"Content-Type": "image/jpeg"})
        assert response.status == 200, response.text
        called = read_counters(counters) - before
        assert called["kernels"] > 0
        assert called["cuDNN plans"] == 0, "all of them were built before the server was ready"
        code, output = server.stop()
        assert code == 0, output
