"""Where and in which number format to compute, and how to wait for a GPU no longer than needed."""

import ctypes
import functools

import torch
from torch import Tensor, nn

from runtime.errors import ConfigError
from runtime.process import cpu_count

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one; raises ConfigError if `cuda` is asked for in vain."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no CUDA device is visible, check the driver or pass --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def select_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for float32; `auto` takes bf16 where the hardware has it, fp16 on older GPUs.

    From here on float32 is float32: a GPU's convolutions would otherwise keep 10 bits of each factor (TF32).
    """
    torch.backends.cudnn.allow_tf32 = False
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; pass bf16 or fp32 on a CPU")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, its convolutions channels-last, which is how images lie in the store."""
    placed: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def use_cpus() -> None:
    """Compute on as many threads as the container has CPUs, and keep memory that is freed for the next step.

    torch counts the CPUs of the machine, not of the container's quota. And glibc gives blocks of the size of a batch
    back to the kernel, which has to page them in again in every step: with TinyModel that is a tenth of the time.
    """
    torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for what the device has to do before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """These numbers on a device, where they stay: to send them waits for the device."""
    with torch.inference_mode(False):  # whoever asks first, training may be next
        return torch.tensor(values, device=device)


class HostCopy:
    """A tensor on its way to the host: reading it waits for what its device had to do before, not for what came after.

    To ask a tensor on a GPU itself, such as with `float(loss)`, waits for everything that is queued.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach().to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrived:
            self._arrived.record(torch.cuda.current_stream(tensor.device))  # type: ignore[no-untyped-call]

    def read(self) -> Tensor:
        if self._arrived:
            self._arrived.synchronize()
        return self._tensor
