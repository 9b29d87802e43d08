"""Sentences for a GPU that torch cannot use, with the number of CUDA's error and the ways out."""

import ctypes
import os
import re

import torch

from runtime.errors import DeviceError
from runtime.nvidia import NEWER_DRIVER, OLDEST_VERSION, driver_version, shown_version

_NO_DEVICE, _OLD_DRIVER = 100, 35  # cudaErrorNoDevice, cudaErrorInsufficientDriver, also without any driver
_CPU_OPTIONS = "--device cpu (serve: SERVE_DEVICE=cpu)"


def check_architecture() -> None:
    """Raise DeviceError for a GPU that torch has no kernels for, such as one that is older than all of them.

    Kernels run on GPUs of the same major compute capability (sm_80 on 8.6); intermediate code (compute_80) is compiled
    for any newer GPU.
    """
    capability = torch.cuda.get_device_capability()
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in torch.cuda.get_arch_list()]
    kernels = sorted((int(match[2]), int(match[3]), match[1]) for match in found if match)
    runs = [
        (major, minor) <= capability and (kind == "compute" or major == capability[0]) for major, minor, kind in kernels
    ]
    if kernels and not any(runs):
        listed = ", ".join(dict.fromkeys(shown_capability((major, minor)) for major, minor, _ in kernels))
        raise DeviceError(
            f"the {torch.cuda.get_device_name()} has compute capability {shown_capability(capability)}, and this "
            f"PyTorch has kernels for {listed}; use another GPU, or compute on the CPU with {_CPU_OPTIONS}"
        )


def shown_capability(capability: tuple[int, int]) -> str:
    """Return a compute capability as people write it: 8.6 for (8, 6)."""
    return f"{capability[0]}.{capability[1]}"


def explain_unusable_gpu() -> str:
    """Return one sentence for a GPU of this host that torch cannot use: the error of CUDA and the ways out."""
    number, meaning = counting_error()
    version, visible = driver_version(), os.environ.get("CUDA_VISIBLE_DEVICES")
    reason = f"CUDA error {number}: {meaning}" if number else "CUDA counts none"
    remedy = "restart the host or install its driver again"
    if number is None:
        reason, remedy = "this PyTorch was built without CUDA", "install the versions of container/requirements.lock"
    elif version is None and number == _OLD_DRIVER:
        reason += ", the driver's library libcuda.so.1 is missing"
        remedy = "install the driver, or start the container with --gpus all"
    elif version is not None and version < OLDEST_VERSION:
        reason += f", the driver offers {shown_version(version)} and PyTorch needs {shown_version(OLDEST_VERSION)}"
        remedy = NEWER_DRIVER
    elif visible is not None:
        reason, remedy = f"{reason}, CUDA_VISIBLE_DEVICES is {visible!r}", f"correct CUDA_VISIBLE_DEVICES, {remedy}"
    return f"the GPU of this host cannot be used ({reason}); {remedy}, or compute on the CPU with {_CPU_OPTIONS}"


def counting_error() -> tuple[int | None, str]:
    """Return the number and the meaning of the error with which CUDA counts the GPUs; None without CUDA in torch.

    The number is 0 if it counts them. torch tells the number of some errors only, and only once in a process.
    """
    runtime = ctypes.CDLL(None)  # torch has loaded CUDA's runtime library for the whole process
    if not hasattr(runtime, "cudaGetDeviceCount"):
        return None, ""
    number = int(runtime.cudaGetDeviceCount(ctypes.byref(ctypes.c_int())))
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    return number, runtime.cudaGetErrorString(number).decode()


def is_serious(number: int | None) -> bool:
    """Return whether an error of `counting_error` is one that a host without a GPU does not have."""
    return number not in (None, 0, _NO_DEVICE, _OLD_DRIVER)
