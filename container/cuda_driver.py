"""Whether PyTorch can work with the NVIDIA driver of this host, and what must be set so that it can.

The libraries in torch's wheels are CUDA 12.8. They run on every driver of CUDA 12 (NVIDIA's minor version
compatibility, driver 525 and newer). For an older one the base image carries the driver API of CUDA 12.8 in
/usr/local/cuda/compat (forward compatibility); it works on data-centre GPUs only, and whether it does is answered by
its own cuInit. The dynamic linker reads LD_LIBRARY_PATH when a process starts, so it must be set before the verb does.
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
    """What the verb's process needs besides `environ`; says so in a sentence, but is silent where there is no GPU."""
    version = driver_version(host_library)
    if version is None or version >= OLDEST_VERSION:
        return {}
    old = f"the NVIDIA driver of this host offers CUDA {version // 1000}.{version % 1000 // 10}"
    if starts(str(compat_dir / LIBRARY)):
        print(f"{old}; the newer driver API in {compat_dir} makes up for it", flush=True)
        folders = [str(compat_dir), *filter(None, [environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(folders)}
    print(
        f"{old}, PyTorch needs 12.0: computing on the CPU; install driver 525 or newer, in a batch transform job"
        " set TransformAmiVersion to al2-ami-sagemaker-batch-gpu-535",
        flush=True,
    )
    return {"CUDA_VISIBLE_DEVICES": ""}


def driver_version(library: str) -> int | None:
    """The newest CUDA that a driver library offers, such as 12020 for 12.2; None where there is no driver."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    version = ctypes.c_int()
    return version.value if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else None


def starts(library: str) -> bool:
    """Whether a driver library exists and can work with this host's kernel module and GPU."""
    try:
        return bool(ctypes.CDLL(library).cuInit(0) == 0)
    except OSError:
        return False
