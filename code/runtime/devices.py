"""The device and number format to compute in, process-wide settings of torch, and transfers that do not block."""

import ctypes
import functools
import importlib.metadata
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor, nn

from runtime.cuda_errors import check_architecture, counting_error, explain_unusable_gpu, is_serious, shown_capability
from runtime.errors import ConfigError, DeviceError
from runtime.nvidia import driver_release, has_gpu, wants_cpu
from runtime.process import cpu_count

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def configure_process(threads: int = 0) -> None:
    """Set up torch and malloc for the whole process; every command calls this once, before it computes anything.

    - torch computes on `threads` threads. With 0 it uses as many as the container has CPUs, or fewer if
      OMP_NUM_THREADS says so: by default torch counts the CPUs of the machine, not of the container's quota.
    - float32 convolutions and products of matrices on a GPU keep all their bits: by default cuDNN rounds each factor
      to 10 bits (TF32), and in NVIDIA's PyTorch images TORCH_ALLOW_TF32_CUBLAS_OVERRIDE makes cuBLAS do so.
    - glibc keeps freed blocks of the size of a batch: by default it returns them to the kernel, which pages them in
      again in the next step, a tenth of the time of a step with TinyModel.
    """
    torch.set_num_threads(threads or min(torch.get_num_threads(), cpu_count()))
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # the maximum that mallopt accepts
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def select_device(name: str) -> torch.device:
    """Return the device that `--device` names; `auto` is the first GPU, or the CPU on a machine without one.

    Raises ConfigError for `cuda` where no GPU is visible, and DeviceError for a GPU that torch cannot use. Unless the
    CPU was asked for, with `cpu` or by CUDA_VISIBLE_DEVICES, a GPU is never left unused without an error.
    """
    if name == "cpu":
        return torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of broken drivers and old GPUs; the errors below say more
        if torch.cuda.is_available():
            check_architecture()
            return torch.device("cuda")
    hidden = wants_cpu(os.environ)
    if not hidden and has_gpu(os.environ):
        raise DeviceError(explain_unusable_gpu())
    if name == "cuda":
        raise ConfigError("--device cuda: no CUDA device is visible, check the driver or pass --device cpu")
    number, meaning = counting_error()
    if not hidden and is_serious(number):
        print(f"warning: CUDA reports error {number} ({meaning}) and no GPU; using the CPU", file=sys.stderr)
    return torch.device("cpu")


def select_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type that `--precision` names, or None for float32 throughout.

    `auto` is bf16 where the hardware supports it, else fp16 on a GPU and float32 on a CPU. Raises ConfigError for
    fp16 on a CPU, and for bf16 on a GPU without it, which would compute convolutions image by image.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; pass bf16 or fp32 on a CPU")
    if precision == "bf16" and device.type == "cuda" and not has_bf16:
        raise ConfigError(
            f"--precision bf16 needs a GPU with compute capability 8.0 or newer, and the {torch.cuda.get_device_name()}"
            f" has {shown_capability(torch.cuda.get_device_capability())}; pass auto, fp16 or fp32"
        )
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if has_bf16 else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def runtime_versions(device: torch.device) -> dict[str, Any]:
    """Return what the bits of a result depend on besides data and settings: library versions and the processor."""
    versions = {module.__name__: str(module.__version__) for module in (torch, np, PIL)}
    versions["torchvision"] = _torchvision_version()
    if device.type == "cuda":
        return versions | {
            "processor": torch.cuda.get_device_name(device),
            "SMs": torch.cuda.get_device_properties(device).multi_processor_count,  # some names stand for several
            "driver": driver_release(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return versions | {"processor": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def _torchvision_version() -> str:
    """Return `torchvision.__version__` without importing torchvision, which takes a second."""
    distribution = importlib.metadata.distribution("torchvision")
    text = Path(str(distribution.locate_file("torchvision/version.py"))).read_text()
    found = re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)  # with the build, which the metadata leave out
    return found[1] if found else distribution.version


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device; its convolutions become channels-last, the layout of images in the store."""
    moved: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without waiting for the work queued on the device."""
    if device.type != "cuda":
        return tensor.to(device)
    # a strided tensor would take a copy in memory that is not pinned, which waits
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers as a tensor (len(values),) that stays on the device: sending them each time would wait for it."""
    with torch.inference_mode(False):  # the first caller may be in inference mode, and a later one in training
        return torch.tensor(values, device=device)


class HostCopy:
    """A copy of a tensor on its way to the host; reading it waits for earlier work of the device, not for later work.

    Reading a tensor on a GPU directly, as `float(loss)` does, waits for everything that is queued.
    """

    def __init__(self, tensor: Tensor) -> None:
        """Start to copy `tensor`."""
        self._tensor = tensor.detach().to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrived:
            self._arrived.record(torch.cuda.current_stream(tensor.device))  # type: ignore[no-untyped-call]

    def read(self) -> Tensor:
        """Return the copy, on the CPU, once it has arrived."""
        if self._arrived:
            self._arrived.synchronize()
        return self._tensor
