"""Slots as those of the server, decoded in threads of the main process: a leg of serve_bars.py."""

import queue
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from data.images import Preparation, prepare
from runtime.errors import ImageError
from server.slot_pool import NoSlotError


class ThreadSlots:
    """Slots as slot_pool.SlotPool, decoded in threads of the main process."""

    def __init__(self, preparation: Preparation, threads: int, slots: int) -> None:
        self.pixels = np.zeros((slots, *preparation.size, 3), np.uint8)
        self._preparation, self._free, self._cancelled = preparation, list(range(slots)), set[int]()
        self._jobs: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._ready: dict[int, ImageError | None] = {}
        self._changed = threading.Condition()
        for _ in range(threads):
            threading.Thread(target=self._decode, daemon=True).start()

    def reserve(self) -> int:
        if not self._free:
            raise NoSlotError
        return self._free.pop()

    def submit(self, slot: int, parts: Sequence[bytes | bytearray], *, is_gzipped: bool) -> None:
        self._cancelled.discard(slot)
        self._jobs.put((slot, b"".join(parts)))

    def cancel(self, slot: int) -> None:
        self._cancelled.add(slot)

    def wait(self) -> list[int]:
        with self._changed:
            self._changed.wait_for(lambda: self._ready, 1)
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
        self._free += slots

    def close(self) -> None:
        """Do nothing: the threads end with the process."""

    def _decode(self) -> None:
        while True:
            slot, body = self._jobs.get()
            error = None
            try:
                if slot not in self._cancelled:
                    self.pixels[slot] = prepare(body, self._preparation)
            except ImageError as found:
                error = found
            with self._changed:
                self._ready[slot] = error
                self._changed.notify()
