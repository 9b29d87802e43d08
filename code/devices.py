"""Where and in which number format to compute."""

import torch
from torch import nn

from errors import ConfigError

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one; raises ConfigError if `cuda` is asked for in vain."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no CUDA device is visible, check the driver or pass --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def select_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for float32; `auto` takes bf16 where the hardware has it, fp16 on older GPUs."""
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; pass bf16 or fp32 on a CPU")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, its convolutions channels-last, which is how pictures lie in the store."""
    placed: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed
