"""The device and number format to compute in, process-wide settings of torch, and transfers that do not block."""

import ctypes
import functools
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor, nn

from runtime.errors import ConfigError
from runtime.process import cpu_count

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def configure_process(threads: int = 0) -> None:
    """Set up torch and malloc for the whole process; every command calls this once, before it computes anything.

    - torch computes on `threads` threads. With 0 it uses as many as the container has CPUs, or fewer if
      OMP_NUM_THREADS says so: by default torch counts the CPUs of the machine, not of the container's quota.
    - float32 convolutions on a GPU keep all their bits: by default cuDNN rounds each factor to 10 bits (TF32).
    - glibc keeps freed blocks of the size of a batch: by default it returns them to the kernel, which pages them in
      again in the next step, a tenth of the time of a step with TinyModel.
    """
    torch.set_num_threads(threads or min(torch.get_num_threads(), cpu_count()))
    torch.backends.cudnn.allow_tf32 = False
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # the maximum that mallopt accepts
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def select_device(name: str) -> torch.device:
    """Return the device that `--device` names; `auto` is the first GPU, or the CPU on a machine without one.

    Raises ConfigError for `cuda` where no GPU is visible.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no CUDA device is visible, check the driver or pass --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def select_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type that `--precision` names, or None for float32 throughout.

    `auto` is bf16 where the hardware supports it, else fp16 on a GPU and float32 on a CPU. Raises ConfigError for
    fp16 on a CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; pass bf16 or fp32 on a CPU")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def runtime_versions(device: torch.device) -> dict[str, Any]:
    """Return what the bits of a result depend on besides data and settings: library versions and the processor."""
    import torchvision  # not at the top: it takes a second to import, and most users of this module do not need it

    versions = {module.__name__: str(module.__version__) for module in (torch, torchvision, np, PIL)}
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
        return versions | {"processor": processor, "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return versions | {"processor": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device; its convolutions become channels-last, the layout of images in the store."""
    moved: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without waiting for the work queued on the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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
