"""The GPUs and the NVIDIA driver of this host, found without torch.

A driver that is broken or too old makes torch see no GPU, and say so in a warning at most. These functions tell such a
host from one without a GPU.
"""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path

LIBRARY = "libcuda.so.1"  # the driver's library
DEVICES = Path("/dev")
RELEASE = Path("/proc/driver/nvidia/version")
OLDEST_VERSION = 12000  # as CUDA counts: 1000 * major + 10 * minor
NEWER_DRIVER = (
    "install driver 525 or newer, or in a batch transform job set TransformAmiVersion to"
    " al2-ami-sagemaker-batch-gpu-535"
)


def wants_cpu(environ: Mapping[str, str]) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides every GPU on purpose: empty, or -1 in the first place."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.split(",")[0].strip() in ("", "-1")


def has_gpu(environ: Mapping[str, str], devices: Path = DEVICES, library: str = LIBRARY) -> bool:
    """Return whether this host has an NVIDIA GPU, whatever torch can do with it.

    There is one if it has a device node, if SageMaker counted one (SM_NUM_GPUS), or if the driver counts one, which
    has no node in Windows' Linux.
    """
    counted = environ.get("SM_NUM_GPUS", "").strip()
    is_node = re.compile(r"nvidia\d+").fullmatch
    if (counted.isdecimal() and int(counted) > 0) or any(is_node(path.name) for path in devices.glob("nvidia*")):
        return True
    return init_error(library) == 0 and _device_count(library) > 0


def driver_version(library: str = LIBRARY) -> int | None:
    """Return the newest CUDA version that a driver library offers, 12020 for 12.2, or None without a driver."""
    driver, version = _load(library), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value


def init_error(library: str = LIBRARY) -> int | None:
    """Return the error number of a driver library's cuInit, 0 if it works with this host, None without a driver."""
    driver = _load(library)
    return None if driver is None else int(driver.cuInit(0))


def shown_version(version: int) -> str:
    """Return a CUDA version as people write it: 12.2 for 12020."""
    return f"{version // 1000}.{version % 1000 // 10}"


def driver_release(path: Path = RELEASE) -> str | None:
    """Return the release of the kernel's NVIDIA driver, such as 570.124.06, or None without one."""
    try:
        found = re.search(r"\s(\d+(?:\.\d+)+)\s", path.read_text().partition("\n")[0] + "\n")
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def _device_count(library: str) -> int:
    """Return how many GPUs an initialised driver library counts."""
    driver, count = _load(library), ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _load(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
