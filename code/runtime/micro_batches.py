"""Batches that do not fit into the memory of the device are processed in micro-batches.

This module lies in `runtime` because `training.trainer` and `predictor` share it.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from runtime.errors import DeviceError

Result = TypeVar("Result")


class MicroBatches:
    """The number of micro-batches a batch is split into; it doubles whenever the device runs out of memory."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def run(self, work: Callable[[int], Result], batch_size: int) -> Result:
        """Return `work(count)` for a batch of `batch_size` images split into `count` micro-batches.

        When the device runs out of memory, `work` starts over with twice as many, and later calls keep that count. A
        warning is printed each time. Raises DeviceError if a single image does not fit.
        """
        while True:
            try:
                return work(self.count)
            except torch.OutOfMemoryError as error:
                if self.count >= batch_size:
                    reason = str(error).partition("\n")[0]
                    raise DeviceError(
                        f"the device has no memory for a single image ({reason}); lower --resize, choose a smaller "
                        "--model, or use a larger device"
                    ) from None
            # Outside of `except`: the traceback, and the tensors it refers to, have been freed by now.
            torch.cuda.empty_cache()
            self.count = min(2 * self.count, batch_size)
            print(
                f"warning: the device has no memory for the whole batch; splitting each batch of {batch_size} images "
                f"into micro-batches of {-(-batch_size // self.count)} images, the effective batch size stays the same",
                file=sys.stderr,
            )
