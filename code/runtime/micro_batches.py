"""When the device has no memory for a batch: the same work, in smaller parts."""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from runtime.errors import DeviceError

Result = TypeVar("Result")


class MicroBatches:
    """Into how many parts a batch is split; twice as many after each time that they did not fit into memory."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def run(self, work: Callable[[int], Result], images: int) -> Result:
        """`work(count)` for a batch of so many images; without memory for it, from its beginning with more parts.

        Raises DeviceError if there is no memory for a single image.
        """
        while True:
            try:
                return work(self.count)
            except torch.OutOfMemoryError as error:
                if self.count >= images:
                    reason = str(error).partition("\n")[0]
                    raise DeviceError(
                        f"the device has no memory for a single image ({reason}); lower --resize, choose a smaller "
                        "--model, or use a larger device"
                    ) from None
            # Only here have the traceback and what it holds on the device been let go.
            torch.cuda.empty_cache()
            self.count = min(2 * self.count, images)
            print(
                f"warning: the device has no memory for more; going on with {-(-images // self.count)} images at a "
                f"time, {images} to a batch as before",
                file=sys.stderr,
            )
