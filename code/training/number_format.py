"""The number format to train in, which on a CPU depends on the network and on the size of its images.

Torch 2.10 does not write all gradients in bf16 on a CPU. Where the stride of a convolution is larger than the width of
its input, the gradients of weights that only meet padding are whatever was in the memory: a run has other bits each
time, or NaN. That is so for a 3x3 convolution of stride 2 on a map of one column, and so for resnet18 and TinyModel up
to 16 pixels, for a few networks of timm up to 32. Of 2,232 convolutions that were measured with freed memory full of
NaN, none was affected whose input is at least as wide as its stride.

The forward pass is complete, so infer and serve compute in bf16 at any size.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from runtime.devices import select_dtype
from runtime.errors import ConfigError


def select_training_dtype(
    precision: str, device: torch.device, network: nn.Module, name: str, size: tuple[int, int]
) -> torch.dtype | None:
    """Return the autocast type to train a network with on images of `size` (height, width), or None for float32.

    It is that of `select_dtype`, unless torch would leave gradients unwritten: then `auto` is float32, and ConfigError
    is raised for `bf16`.
    """
    dtype = select_dtype(precision, device)
    if device.type != "cpu" or dtype is None or not has_too_large_strides(network, size):
        return dtype
    if precision == "auto":
        return None
    raise ConfigError(
        f"--precision {precision} on a CPU needs images of more than {size[0]} x {size[1]} pixels for model {name!r}, "
        "whose maps become smaller than a stride; pass auto or fp32, or a larger --resize"
    )


def has_too_large_strides(network: nn.Module, size: tuple[int, int]) -> bool:
    """Return whether a convolution has a stride above a side of its input; runs one image, and changes no state.

    The height counts as well: only the width was found to matter, on the processors that were measured.
    """
    was_training, strides = network.training, _Strides()
    with torch.no_grad(), strides:
        network.eval()(torch.zeros(1, 3, *size))
    network.train(was_training)
    return strides.are_too_large


class _Strides(TorchDispatchMode):
    """Compares the stride of each convolution with the sides of its input, once a network has padded it itself."""

    def __init__(self) -> None:
        super().__init__()
        self.are_too_large = False

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation of torch; of a convolution, look at its input and its stride first."""
        if function is torch.ops.aten.convolution.default:
            sides, stride = args[0].shape[2:], args[3]
            self.are_too_large |= any(step > side for step, side in zip(stride, sides, strict=True))
        return function(*args, **(kwargs or {}))
