"""The variables for the NVIDIA driver of the host, tested with real shared libraries that pose as drivers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cuda_driver import driver_variables
from support.drivers import COMPILER, NEW_VERSION, OLD_VERSION, Driver, make_driver

NOT_SUPPORTED_ON_DEVICE = 804  # result of the compatibility libraries on a GeForce

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a driver library with")


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return lambda folder, *numbers: make_driver(tmp_path / folder, *numbers)


def test_without_a_gpu_nothing_is_set_or_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver_variables({}, "libcuda-that-is-not-there.so", tmp_path) == {}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("version", [12000, 12020, 12080, 13000])
def test_a_new_enough_driver_needs_no_variables(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    driver("compat", NEW_VERSION)
    assert driver_variables({}, str(driver("host", version)), tmp_path / "compat") == {}
    assert capsys.readouterr().out == ""


def test_an_old_driver_gets_the_compatibility_libraries(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = driver("host", OLD_VERSION)
    driver("compat", NEW_VERSION)
    found = driver_variables({"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}, str(host), tmp_path / "compat")
    assert found == {"LD_LIBRARY_PATH": f"{tmp_path}/compat:/usr/local/nvidia/lib"}
    assert "offers CUDA 11.4" in capsys.readouterr().out


@pytest.mark.parametrize("compat_init", [NOT_SUPPORTED_ON_DEVICE, None])
def test_an_old_driver_without_them_is_named_and_left_to_the_command(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str], compat_init: int | None
) -> None:
    if compat_init is not None:
        driver("compat", NEW_VERSION, compat_init)
    assert driver_variables({}, str(driver("host", OLD_VERSION)), tmp_path / "compat") == {}
    printed = capsys.readouterr().out
    assert "offers CUDA 11.4, PyTorch needs 12.0" in printed
    assert "install driver 525 or newer" in printed
    assert (f"its cuInit returns {compat_init}" in printed) == (compat_init is not None)


def test_a_driver_that_does_not_start_is_named_with_its_number(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver_variables({}, str(driver("host", NEW_VERSION, 999)), tmp_path) == {}
    assert capsys.readouterr().out == "the NVIDIA driver of this host cannot be used: its cuInit returns error 999\n"


def test_a_driver_on_a_host_without_a_gpu_is_not_mentioned(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver_variables({}, str(driver("host", NEW_VERSION, 100)), tmp_path) == {}
    assert capsys.readouterr().out == ""


def test_the_variable_makes_a_new_process_load_the_newer_driver(driver: Driver, tmp_path: Path) -> None:
    host = driver("host", OLD_VERSION)
    driver("compat", NEW_VERSION)
    ask = "from runtime.nvidia import driver_version; print(driver_version('libcuda.so.1'))"
    environ = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1] / "code"),
        "LD_LIBRARY_PATH": str(host.parent),
    }
    environ |= driver_variables(environ, str(host), tmp_path / "compat")
    done = subprocess.run([sys.executable, "-c", ask], env=environ, check=True, capture_output=True, text=True)
    assert done.stdout == "12080\n"
