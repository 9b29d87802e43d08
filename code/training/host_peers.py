"""The workers of one host, as its image store sees them (data/shared_store.py)."""

import json
import time
from collections.abc import Callable
from typing import Any

from training.lost_workers import LostWorkers

_POLL_SECONDS = 0.01


class HostPeers:
    """The workers of one host, which share an image store (data/shared_store.py).

    They wait for each other by way of the store of torch.distributed, for as long as it takes: the owner may have many
    images to read first.
    """

    def __init__(self, store: Any, lost: LostWorkers, host: int, rank: int, size: int) -> None:
        """`rank` and `size` are those within the host."""
        self._store, self._lost, self._host, self._rank, self._size = store, lost, host, rank, size
        self._calls = 0

    @property
    def is_owner(self) -> bool:
        return self._rank == 0

    def tell(self, value: Any = None) -> Any:
        """Return what the owner gives, as JSON."""
        key = self._new_key()
        if self.is_owner:
            self._store.set(key, json.dumps(value))
        else:
            self._wait(lambda: self._store.check([key]))
        return json.loads(self._store.get(key))

    def meet(self) -> None:
        """Wait until all have called this."""
        key = self._new_key()
        self._store.add(key, 1)
        self._wait(lambda: self._store.add(key, 0) == self._size)

    def check(self) -> None:
        """Raise the error of a worker that has ended."""
        self._lost.check()

    def _new_key(self) -> str:
        self._calls += 1
        return f"host {self._host}, call {self._calls}"

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            self.check()
            time.sleep(_POLL_SECONDS)
