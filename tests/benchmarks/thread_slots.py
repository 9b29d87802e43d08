"""Slots as those of the server, decoded in threads of the main process: a leg of serve_bars.py."""

import queue
import threading
from collections.abc import Sequence

from data.images import Preparation, prepare
from runtime.errors import ImageError
from support.memory_slots import MemorySlots


class ThreadSlots(MemorySlots):
    """Slots as slot_pool.SlotPool, decoded in threads of the main process."""

    def __init__(self, preparation: Preparation, threads: int, slots: int) -> None:
        super().__init__(slots, preparation.size)
        self._preparation = preparation
        self._jobs: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._decode, daemon=True).start()

    def submit(self, slot: int, parts: Sequence[bytes | bytearray], *, is_gzipped: bool) -> None:
        self.cancelled.discard(slot)
        self._jobs.put((slot, b"".join(parts)))

    def close(self) -> None:
        """Do nothing: the threads end with the process."""

    def _decode(self) -> None:
        while True:
            slot, body = self._jobs.get()
            error = None
            try:
                if slot not in self.cancelled:
                    self.pixels[slot] = prepare(body, self._preparation)
            except ImageError as found:
                error = found
            self.report({slot: error})
