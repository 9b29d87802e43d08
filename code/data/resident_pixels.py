"""The pixels of an image store on a GPU: later batches are selected there, until the GPU needs the memory."""

import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.images import Pixels
from runtime.devices import send
from runtime.memory import is_out_of_memory

_SHARE = 0.4  # of the free memory of the GPU, at most
_PIECE = 1000  # images that are copied at once: a mapped file may be larger than memory


class ResidentPixels:
    """A copy of all pixels on a device, which any thread may use or give back.

    `fill` makes the copy, `take` selects images where there is one, and `release` gives the memory back; after that
    there is no copy again in this process.
    """

    def __init__(self) -> None:
        self._pixels: Tensor | None = None
        self._lock = threading.Lock()  # so that nobody selects images while the memory is given back
        self._is_over = False

    def fill(self, pixels: Pixels, device: torch.device) -> None:
        """Copy pixels (images, height, width, 3) to a GPU, if they take at most 40 percent of its free memory.

        Memory that torch had reserved at any time, and will need again, is not free. Does nothing if they are there
        already or were given back.
        """
        if self._pixels is not None or self._is_over or pixels.nbytes > _SHARE * _free_memory(device):
            return
        try:
            copied = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._is_over = True  # what is free is in pieces, or another process was faster
            return
        for start in range(0, len(pixels), _PIECE):
            copied[start : start + _PIECE] = torch.from_numpy(pixels[start : start + _PIECE].copy())
        self._pixels = copied

    def take(self, indices: NDArray[np.int64], target: Tensor) -> bool:
        """Copy the images at these indices to `target` (batch, height, width, 3); return False if there is no copy."""
        with self._lock:
            if self._pixels is None:
                return False
            torch.index_select(self._pixels, 0, send(torch.from_numpy(indices), self._pixels.device), out=target)
            return True

    def release(self) -> bool:
        """Give the memory back for good; return False if there was no copy. A warning is printed."""
        with self._lock:
            if self._pixels is None:
                return False
            if self._pixels.is_cuda:
                torch.cuda.synchronize(self._pixels.device)  # another stream may be about to read it
            self._pixels, self._is_over = None, True
        print(
            "warning: the GPU has no memory left; it gives up its copy of the images, and batches come from the host "
            "again",
            file=sys.stderr,
        )
        return True


def _free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that are free when torch has reserved as much as it ever had in this process."""
    given_back = torch.cuda.max_memory_reserved(device) - torch.cuda.memory_reserved(device)
    return int(torch.cuda.mem_get_info(device)[0]) - given_back
