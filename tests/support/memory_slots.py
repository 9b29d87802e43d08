"""Slots as those of the server's pool, in the memory of this process: who decodes is up to a subclass."""

import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from runtime.errors import DecodingError, ImageError
from server.slot_pool import NoSlotError


class MemorySlots:
    """What server.batching.Slots asks for, but `submit`; a subclass calls `report` when a slot is decoded."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        """Create slots for images of a height and a width."""
        self.pixels = np.zeros((count, *size, 3), np.uint8)
        self.free = list(range(count))
        self.failure: DecodingError | None = None
        self.cancelled: set[int] = set()
        self._ready: dict[int, ImageError | None] = {}
        self._changed = threading.Condition()

    def reserve(self) -> int:
        if not self.free:
            raise NoSlotError
        return self.free.pop()

    def report(self, decoded: Mapping[int, ImageError | None]) -> None:
        """Let `wait` return slots, all at once, which are decoded or have an error."""
        with self._changed:
            self._ready |= decoded
            self._changed.notify()

    def cancel(self, slot: int) -> None:
        self.cancelled.add(slot)

    def wait(self) -> list[int]:
        with self._changed:
            self._changed.wait_for(lambda: self._ready, 0.05)
            if self.failure:
                raise self.failure
            return [*self._ready]

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def take(self, slots: Sequence[int]) -> None:
        for slot in slots:
            del self._ready[slot]

    def reset(self, slot: int) -> None:
        self._ready.pop(slot, None)

    def error(self, slot: int) -> ImageError | None:
        return self._ready[slot]

    def release(self, slots: Iterable[int]) -> None:
        self.free += slots

    def count(self) -> int:
        """Return how many slots are decoded and not taken."""
        return len(self._ready)
