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
from PIL import Image

# No test is timed, and a failure must come back on the next run.
settings.register_profile("guarantees", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("guarantees")

STEMS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
PEOPLE = (("male", 25), ("female", 25), ("male", 45), ("female", 45), ("male", 60), ("female", 60))


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


def draw_image(label: int, person: int, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """An image (width, height) whose colours give its class away: mask above, gender in the middle, age below."""
    mask, gender, age = label // 6, label // 3 % 2, label % 3
    pixels = np.random.default_rng([label, person]).integers(0, 40, (size[1], size[0], 3))
    third = size[1] // 3
    pixels[:third, :, mask] += 200
    pixels[third : 2 * third] += np.array([200, 60, 0]) if gender else np.array([0, 60, 200])
    pixels[2 * third :] += 100 * age
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def label_of(stem: str, gender: str, age: int) -> int:
    mask = {"incorrect_mask": 1, "normal": 2}.get(stem, 0)
    return mask * 6 + (gender == "female") * 3 + (age >= 30) + (age >= 60)


def draw_faces(root: Path, people: int, size: tuple[int, int]) -> Path:
    """Make `people` profile folders with seven images each, in all six groups by turns; returns their folder."""
    for person in range(people):
        gender, age = PEOPLE[person % len(PEOPLE)]
        profile = root / f"{person:06}_{gender}_Asian_{age}"
        profile.mkdir(parents=True)
        for stem in STEMS:
            draw_image(label_of(stem, gender, age), person, size).save(profile / f"{stem}.jpg", quality=95)
    return root


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
