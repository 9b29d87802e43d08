"""A number that tells whether two workers hold the same bits."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def checksum(state: Any, device: torch.device) -> int:
    """Return the sum of the bits of all tensors in a state, as whole numbers modulo 2**64; one bit changes it."""
    total = torch.zeros((), dtype=torch.int64, device=device)
    for tensor in _tensors(state):
        total += tensor.detach().view(_WHOLE_NUMBERS[tensor.itemsize]).sum(dtype=torch.int64).to(device)
    return int(total)


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(part)
