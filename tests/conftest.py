"""Tiny generated data sets, and global state put back after every test."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only wait for each other

import torch
from hypothesis import settings

from support.drawing import draw_faces, draw_image

# No test is timed, and a failure must come back on the next run.
settings.register_profile("guarantees", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("guarantees")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked gpu is skipped where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def restore_global_state() -> Iterator[None]:
    """Seed every generator, and restore threads and cuDNN flags afterwards: they belong to the process, not a test."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    yield
    torch.set_num_threads(threads)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = flags


@pytest.fixture
def faces(tmp_path: Path) -> Callable[..., Path]:
    """Make `people` profile folders in a folder of the test's own; returns that."""

    def make(people: int = 12, folder: str = "train/images", size: tuple[int, int] = (48, 64)) -> Path:
        return draw_faces(tmp_path / folder, people, size)

    return make


@pytest.fixture(scope="module")
def module_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve profile folders for all tests of a module, which only read them."""
    return draw_faces(tmp_path_factory.mktemp("data") / "train/images", 12, (48, 64))


@pytest.fixture
def eval_folder(tmp_path: Path) -> Callable[..., tuple[Path, list[int]]]:
    """Make an eval channel with info.csv in an order of its own; returns it and the true classes, by row."""

    def make(count: int = 36) -> tuple[Path, list[int]]:
        root = tmp_path / "eval"
        (root / "images").mkdir(parents=True)
        labels = [(index * 7) % 18 for index in range(count)]
        rows = ["ImageID,ans"]
        for index, label in enumerate(labels):
            name = f"{(index * 31) % count:040x}.jpg"
            draw_image(label, 1000 + index).save(root / "images" / name, quality=95)
            rows.append(f"{name},0")
        (root / "info.csv").write_text("\n".join(rows) + "\n")
        return root, labels

    return make
