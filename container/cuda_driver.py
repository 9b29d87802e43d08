"""The variables that let PyTorch work with the NVIDIA driver of this host.

torch's wheels bring the libraries of CUDA 12.8, which run on every driver of CUDA 12 (driver 525 and newer, NVIDIA's
minor version compatibility). For older drivers the base image has the driver API of CUDA 12.8 in
/usr/local/cuda/compat (forward compatibility). It works on data-centre GPUs only; its own cuInit tells whether it does.
The dynamic linker reads LD_LIBRARY_PATH when a process starts, so the variables are set before the command starts.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path

OLDEST_VERSION = 12000  # as CUDA counts: 1000 * major + 10 * minor
LIBRARY = "libcuda.so.1"
COMPAT_DIR = Path("/usr/local/cuda/compat")


def driver_variables(
    environ: Mapping[str, str], host_library: str = LIBRARY, compat_dir: Path = COMPAT_DIR
) -> dict[str, str]:
    """Return the variables that the command needs besides `environ`; print a sentence if the driver is too old."""
    version = driver_version(host_library)
    if version is None or version >= OLDEST_VERSION:
        return {}
    old = f"the NVIDIA driver of this host offers CUDA {version // 1000}.{version % 1000 // 10}"
    if starts(str(compat_dir / LIBRARY)):
        print(f"{old}; using the newer driver API in {compat_dir}", flush=True)
        folders = [str(compat_dir), *filter(None, [environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(folders)}
    print(
        f"{old}, PyTorch needs 12.0: computing on the CPU; install driver 525 or newer, or in a batch transform job"
        " set TransformAmiVersion to al2-ami-sagemaker-batch-gpu-535",
        flush=True,
    )
    return {"CUDA_VISIBLE_DEVICES": ""}


def driver_version(library: str) -> int | None:
    """Return the newest CUDA version that a driver library offers, 12020 for 12.2, or None without a driver."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    version = ctypes.c_int()
    return version.value if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else None


def starts(library: str) -> bool:
    """Return whether a driver library exists and works with the kernel module and the GPU of this host."""
    try:
        return bool(ctypes.CDLL(library).cuInit(0) == 0)
    except OSError:
        return False
