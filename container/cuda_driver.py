"""The variables that let PyTorch work with the NVIDIA driver of this host.

torch's wheels bring the libraries of CUDA 12.8, which run on every driver of CUDA 12 (driver 525 and newer, NVIDIA's
minor version compatibility). For older drivers the image has the driver API of CUDA 12.8 (forward compatibility). It
works on data-centre GPUs only; its own cuInit tells whether it does. The Dockerfile moves it to a folder of ours: in
the one of NVIDIA's base image, the container toolkit puts it in front of the driver of any GPU, newer ones included.
The dynamic linker reads LD_LIBRARY_PATH when a process starts, so the variables are set before the command starts.

What cannot be helped is only printed here: the command decides, and one with `--device cpu` needs no driver.
"""

from collections.abc import Mapping
from pathlib import Path

from runtime.nvidia import LIBRARY, NEWER_DRIVER, OLDEST_VERSION, driver_version, init_error, shown_version

COMPAT_DIR = Path("/opt/cuda-compat")
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE: a driver without a GPU, or with all of them hidden


def driver_variables(
    environ: Mapping[str, str], host_library: str = LIBRARY, compat_dir: Path = COMPAT_DIR
) -> dict[str, str]:
    """Return the variables that the command needs besides `environ`; print a sentence if the driver cannot be used."""
    version = driver_version(host_library)
    if version is None:
        return {}
    if version >= OLDEST_VERSION:
        if (error := init_error(host_library)) not in (0, _NO_DEVICE):
            print(f"the NVIDIA driver of this host cannot be used: its cuInit returns error {error}", flush=True)
        return {}
    old = f"the NVIDIA driver of this host offers CUDA {shown_version(version)}"
    error = init_error(str(compat_dir / LIBRARY))
    if error == 0:
        print(f"{old}; using the newer driver API in {compat_dir}", flush=True)
        folders = [str(compat_dir), *filter(None, [environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(folders)}
    refused = "" if error is None else f", and the newer driver API does not support it: its cuInit returns {error}"
    print(f"{old}, PyTorch needs {shown_version(OLDEST_VERSION)}{refused}; {NEWER_DRIVER}", flush=True)
    return {}
