"""What is done when the device has no memory left: give some back, split batches into micro-batches, start over.

This module lies in `runtime` because `training.trainer`, `data.loader` and `predictor` share it.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from runtime.errors import DeviceError, reason_of
from runtime.memory import Release, is_out_of_memory, no_memory, nothing_to_release

Result = TypeVar("Result")


class MicroBatches:
    """The number of micro-batches a batch is split into; it doubles when the device has no memory left to give back."""

    def __init__(self, count: int = 1, release: Release = nothing_to_release) -> None:
        """`release` gives back what the device can do without, before batches are split further."""
        self.count, self.release = count, release

    def run(
        self,
        work: Callable[[int], Result],
        batch_size: int,
        undo: Callable[[], object] = lambda: None,
        agree: Callable[[int], int] = int,
    ) -> Result:
        """Return `work(count)` for a batch of `batch_size` images split into `count` micro-batches.

        When the device runs out of memory, `undo` puts back what `work` has changed, and `work` starts over: with the
        same count after something was released or the cache of torch was emptied, else with twice as many, and later
        calls keep that count. So memory that is free, but in pieces, never decides how many there are: the pieces
        depend on all that was done before. A warning is printed each time something is released or split. Where several
        workers do the work together, `agree` gets the count that this one needs, and returns the largest of all. Raises
        DeviceError if a single image does not fit.
        """
        is_clean = False  # torch had cached nothing when the work started
        while True:
            needed, results = self._attempt(work, batch_size, undo, is_clean)
            is_clean = is_clean or not results
            agreed = agree(needed)
            if agreed == self.count and results:
                return results[0]
            if results:
                results.clear()
                undo()
            self._split(batch_size, agreed)

    def _attempt(
        self, work: Callable[[int], Result], batch_size: int, undo: Callable[[], object], is_clean: bool
    ) -> tuple[int, list[Result]]:
        """Return the count that a batch needs, and the result of `work` in a list, which is empty if it needs more."""
        while True:
            try:
                return self.count, [work(self.count)]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = _forget_traceback(error)
            # Outside of `except`: the traceback, and the tensors it refers to, have been freed by now.
            undo()
            released, emptied = self.release(), _empty_cache()
            if not released and (is_clean or not emptied):
                return self._double(batch_size, reason), []
            is_clean = True

    def _double(self, batch_size: int, reason: str) -> int:
        """Return the next count."""
        if self.count >= batch_size:
            raise DeviceError(
                f"the device has no memory for a single image ({reason}); lower --batch-size or --resize, choose a "
                "smaller --model, or use a larger device"
            )
        return min(2 * self.count, batch_size)

    def _split(self, batch_size: int, count: int) -> None:
        """Split into `count` micro-batches from now on."""
        self.count = count
        print(
            f"warning: the device has no memory for the whole batch; splitting each batch of {batch_size} images "
            f"into micro-batches of {-(-batch_size // self.count)} images, the effective batch size stays the same",
            file=sys.stderr,
        )


def retry(
    work: Callable[[], Result], release: Release = nothing_to_release, again: Callable[[], Result] | None = None
) -> Result:
    """Return `work()`; if the device runs out of memory, give some back and return `again()`, by default `work()`.

    This is for work that cannot be split. Raises DeviceError if the device has no memory for it the second time either.
    """
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _forget_traceback(error)
    release()
    _empty_cache()
    try:
        return again() if again else work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise no_memory(error) from None


def _forget_traceback(error: RuntimeError) -> str:
    """Return the reason of an error; a future keeps the error, and its traceback the tensors of the failed work."""
    error.__traceback__ = None
    return reason_of(error, None)


def _empty_cache() -> bool:
    """Give back the memory that torch has cached on the GPU; return False if there was none."""
    before = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved() < before
