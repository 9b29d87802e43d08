"""When the GPU runs out of memory: a run's micro-batches do not depend on how it came to its images, or was stopped."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu.black_images import black_faces
from gpu.interrupted import train_killed_once
from gpu.standin.run import Done, Settings, run_on_standin

# The images take 66 MiB on the GPU; a step takes 430 MiB in one piece, 300 in halves, and up to a gigabyte with what
# torch caches. 500 and 340 MiB are just enough: some steps fail at first, as what is cached is in the way.
FLAGS = (
    "--model TinyModel --epochs 2 --batch-size 14 --valid-batch-size 7 --resize 512 512 --precision bf16 --threads 1"
)
TRAIN = [sys.executable, "-W", "error", "code/train.py", *FLAGS.split(), "--checkpoint-steps", "1"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return black_faces(tmp_path_factory.mktemp("memory") / "train" / "images").parent


def folders(images: Path, output: Path, store: Path) -> Mapping[str, str]:
    return {
        "SM_CHANNEL_TRAIN": str(images),
        "SM_MODEL_DIR": str(output / "model"),
        "SM_CHECKPOINT_DIR": str(output / "checkpoints"),
        "SM_OUTPUT_DATA_DIR": str(output / "output"),
        "SM_OUTPUT_DIR": str(output),
        "SM_STORE_DIR": str(store),
        "OMP_NUM_THREADS": "1",
    }


def micro_batches(done: Done, output: Path) -> dict[str, int]:
    """Return into how many micro-batches a finished run split its batches in the end."""
    assert done.returncode == 0, done.stdout + done.stderr
    newest = max((output / "checkpoints").glob("step-*.pt"))
    saved: dict[str, Any] = torch.load(newest, map_location="cpu", weights_only=True)
    parts: dict[str, int] = saved["trainer"]["parts"]
    return parts


@pytest.mark.parametrize(
    ("memory_mb", "count"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in ((340, 2), (425, 2), (500, 1), (1500, 1))],
)
def test_cold_warm_and_resumed_runs_have_the_same_micro_batches(
    images: Path, tmp_path: Path, memory_mb: int, count: int
) -> None:
    gpu, store = Settings(memory_mb=memory_mb), tmp_path / "store"
    cold = run_on_standin(TRAIN, folders(images, tmp_path / "cold", store), **gpu)
    warm = run_on_standin(TRAIN, folders(images, tmp_path / "warm", store), **gpu)
    resumed = train_killed_once(TRAIN, folders(images, tmp_path / "resumed", store), tmp_path / "counters", **gpu)
    assert "resumed at epoch" in resumed.stdout
    found = [
        micro_batches(done, tmp_path / name) for name, done in (("cold", cold), ("warm", warm), ("resumed", resumed))
    ]
    assert found == [{"training": count, "validation": 1}] * 3


@pytest.mark.slow
def test_a_failure_of_cudnn_for_want_of_memory_halves_the_batch_down_to_one_image(images: Path, tmp_path: Path) -> None:
    gpu = Settings(memory_mb=1000, workspace_mb=2000)
    done = run_on_standin(TRAIN, folders(images, tmp_path, tmp_path / "store"), **gpu)
    assert done.returncode == 1
    assert re.findall(r"into micro-batches of (\d+) images", done.stderr) == ["7", "4", "2", "1"]
    sentence = (tmp_path / "failure").read_text()
    assert sentence.startswith("DeviceError: the device has no memory for a single image (")
    assert "unable to find an engine" in sentence
    assert "Traceback" not in done.stderr


def test_a_gpu_without_any_memory_is_one_sentence(images: Path, tmp_path: Path) -> None:
    done = run_on_standin(TRAIN, folders(images, tmp_path, tmp_path / "store"), malloc_error=2)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "memory" in (tmp_path / "failure").read_text()
