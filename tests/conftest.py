"""Tiny generated data sets, and global state put back after every test."""

import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only wait for each other

import torch
from hypothesis import settings

from support.drawing import draw_eval, draw_faces
from support.exported import Exported, export_tiny
from support.processes import descendants

# No test is timed, and a failure must come back on the next run.
settings.register_profile("guarantees", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("guarantees")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked gpu on a machine without one."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def restore_global_state() -> Iterator[None]:
    """Seed every generator, and restore threads and GPU flags afterwards: they belong to the process, not a test."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = flags
        if torch.cuda.is_initialized() and torch.cuda.get_sync_debug_mode():  # type: ignore[no-untyped-call]
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(autouse=True)
def restore_kernel_choice() -> Iterator[None]:
    """Restore the format of products of matrices, the kernels of attention, and torch's strict mode afterwards."""
    cuda: Any = torch.backends.cuda
    strictness: Any = torch.utils.deterministic
    matmul_tf32, is_filling = cuda.matmul.allow_tf32, strictness.fill_uninitialized_memory
    attention = {
        cuda.enable_flash_sdp: cuda.flash_sdp_enabled(),
        cuda.enable_mem_efficient_sdp: cuda.mem_efficient_sdp_enabled(),
        cuda.enable_cudnn_sdp: cuda.cudnn_sdp_enabled(),
    }
    yield
    cuda.matmul.allow_tf32, strictness.fill_uninitialized_memory = matmul_tf32, is_filling
    for enable, was_enabled in attention.items():
        enable(was_enabled)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True, scope="session")
def no_cached_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Find no weights that whoever runs the tests has fetched.

    With the `monkeypatch` of each test, that would be undone after the folder of the test has been removed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHTS_CACHE", str(tmp_path_factory.getbasetemp() / "no-weights"))
        yield


@pytest.fixture
def waiting_is_an_error() -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager in which every operation that waits for the GPU raises RuntimeError."""

    @contextmanager
    def errors() -> Iterator[None]:
        with warnings.catch_warnings():
            # torch warns that this mode is a prototype, and it sets the mode also if the warning is raised.
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return errors


@pytest.fixture
def faces(tmp_path: Path) -> Callable[..., Path]:
    """Draw `people` profile folders in a folder of the test's own; returns that folder."""

    def make(people: int = 12, folder: str = "train/images", size: tuple[int, int] = (48, 64)) -> Path:
        return draw_faces(tmp_path / folder, people, size)

    return make


@pytest.fixture(scope="module")
def module_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw twelve profile folders, shared by all tests of a module, which only read them."""
    return draw_faces(tmp_path_factory.mktemp("data") / "train/images", 12)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export a tiny model, shared by all tests, which only read it."""
    return export_tiny(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def eval_folder(tmp_path: Path) -> Callable[..., tuple[Path, list[int]]]:
    """Draw an eval folder with info.csv, whose order is its own; returns it and the true class of each row."""

    def make(count: int = 36) -> tuple[Path, list[int]]:
        labels = [(index * 7) % 18 for index in range(count)]
        names = [f"{(index * 31) % count:040x}.jpg" for index in range(count)]
        root = draw_eval(tmp_path / "eval", dict(zip(names, labels, strict=True)))
        return root, labels

    return make


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw neither the report nor the grid of images: that takes longer than training does here."""
    monkeypatch.setattr("publication.write_report", lambda folder, **parts: folder / "report.html")
    monkeypatch.setattr("train.show_grid", lambda *arguments: None)


@pytest.fixture
def new_processes() -> Callable[[], list[int]]:
    """Return a function that lists the processes that the test has started and that have not ended."""
    before = set(descendants(os.getpid()))
    return lambda: [pid for pid in descendants(os.getpid()) if pid not in before]
