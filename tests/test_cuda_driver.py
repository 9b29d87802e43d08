"""The variables for the NVIDIA driver of the host, tested with real shared libraries that pose as drivers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cuda_driver import driver_variables

COMPILER = shutil.which("cc")
NOT_SUPPORTED_ON_DEVICE = 804  # result of the compatibility libraries on a GeForce
DRIVER = """
int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
int cuInit(unsigned flags) {{ return {init}; }}
"""

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a driver library with")
Driver = Callable[..., Path]


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """Compile a driver library that offers CUDA `version` and whose cuInit returns `init`."""

    def make(folder: str, version: int, init: int = 0) -> Path:
        (tmp_path / folder).mkdir()
        source, library = tmp_path / folder / "driver.c", tmp_path / folder / "libcuda.so.1"
        source.write_text(DRIVER.format(version=version, init=init))
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source], check=True)
        return library

    return make


def test_without_a_gpu_nothing_is_set_or_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver_variables({}, "libcuda-that-is-not-there.so", tmp_path) == {}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("version", [12000, 12020, 12080, 13000])
def test_a_new_enough_driver_needs_no_variables(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    driver("compat", 12080)
    assert driver_variables({}, str(driver("host", version)), tmp_path / "compat") == {}
    assert capsys.readouterr().out == ""


def test_an_old_driver_gets_the_compatibility_libraries(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = driver("host", 11040)
    driver("compat", 12080)
    found = driver_variables({"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}, str(host), tmp_path / "compat")
    assert found == {"LD_LIBRARY_PATH": f"{tmp_path}/compat:/usr/local/nvidia/lib"}
    assert "offers CUDA 11.4" in capsys.readouterr().out


@pytest.mark.parametrize("compat_init", [NOT_SUPPORTED_ON_DEVICE, None])
def test_an_old_driver_without_them_means_the_cpu_and_a_message(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str], compat_init: int | None
) -> None:
    if compat_init is not None:
        driver("compat", 12080, compat_init)
    assert driver_variables({}, str(driver("host", 11040)), tmp_path / "compat") == {"CUDA_VISIBLE_DEVICES": ""}
    assert "computing on the CPU; install driver 525 or newer" in capsys.readouterr().out


def test_the_variable_makes_a_new_process_load_the_newer_driver(driver: Driver, tmp_path: Path) -> None:
    host = driver("host", 11040)
    driver("compat", 12080)
    ask = "import cuda_driver; print(cuda_driver.driver_version('libcuda.so.1'))"
    environ = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1] / "container"),
        "LD_LIBRARY_PATH": str(host.parent),
    }
    environ |= driver_variables(environ, str(host), tmp_path / "compat")
    done = subprocess.run([sys.executable, "-c", ask], env=environ, check=True, capture_output=True, text=True)
    assert done.stdout == "12080\n"
