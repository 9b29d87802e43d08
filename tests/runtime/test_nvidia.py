"""A host with a GPU is told from one without, whatever state its driver is in."""

from pathlib import Path

import pytest

from runtime.nvidia import driver_release, driver_version, has_gpu, init_error, shown_version, wants_cpu
from support.drivers import COMPILER, NEW_VERSION, OLD_VERSION, make_driver

ABSENT = "libcuda-that-is-not-there.so"
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a driver library with")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], False),
        (["nvidia0"], True),
        (["nvidia12", "nvidiactl"], True),
        (["nvidiactl", "nvidia-uvm", "nvidia-caps", "null"], False),
    ],
)
def test_a_device_node_is_a_gpu(tmp_path: Path, nodes: list[str], expected: bool) -> None:
    for name in nodes:
        (tmp_path / name).touch()
    assert has_gpu({}, tmp_path, ABSENT) == expected


@pytest.mark.parametrize(("counted", "expected"), [("1", True), ("8", True), ("0", False), ("", False), ("x", False)])
def test_a_gpu_that_sagemaker_counted_is_a_gpu(tmp_path: Path, counted: str, expected: bool) -> None:
    assert has_gpu({"SM_NUM_GPUS": counted}, tmp_path, ABSENT) == expected


@needs_compiler
@pytest.mark.parametrize(("init", "devices", "expected"), [(0, 1, True), (0, 0, False), (100, 1, False)])
def test_a_gpu_that_the_driver_counts_is_a_gpu(tmp_path: Path, init: int, devices: int, expected: bool) -> None:
    library = make_driver(tmp_path / "driver", OLD_VERSION, init, devices)
    assert has_gpu({}, tmp_path, str(library)) == expected


@pytest.mark.parametrize(
    ("visible", "expected"), [("", True), ("-1", True), (" -1,0", True), ("0", False), ("0,-1", False)]
)
def test_hiding_every_gpu_asks_for_the_cpu(visible: str, expected: bool) -> None:
    assert wants_cpu({"CUDA_VISIBLE_DEVICES": visible}) == expected
    assert not wants_cpu({})


@needs_compiler
def test_a_driver_says_its_version_and_whether_it_starts(tmp_path: Path) -> None:
    library = str(make_driver(tmp_path / "driver", NEW_VERSION, 803))
    assert (driver_version(library), init_error(library)) == (NEW_VERSION, 803)
    assert (driver_version(ABSENT), init_error(ABSENT)) == (None, None)
    assert shown_version(NEW_VERSION) == "12.8"


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26 02:27:07 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (builder@host)",
    ],
)
def test_the_release_of_the_kernels_driver_is_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1)\n")
    assert driver_release(tmp_path / "version") == "570.124.06"
    assert driver_release(tmp_path / "missing") is None
