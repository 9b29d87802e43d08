"""The image store of a host with several workers: one array, which one of them fills and all read. No torch.

The owner makes the array and starts the pool of processes that decode into it, in the order of the batches of all. The
others map the array and the board of the pool (decode_board.py), which alone tells what is decoded: so nobody waits for
the owner itself, and a bad image is the same sentence everywhere. They open both through /proc/PID/fd, which needs no
name in any folder, so nothing is left behind however the processes end.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.decode_board import DONE, Board, create_memory
from data.decode_progress import DecodeProgress, Indices
from data.digests import DigestArray
from data.images import Pixels
from runtime.errors import ImageError

_POLL_SECONDS = 0.002  # between two looks at the board


class Peers(Protocol):
    """The workers of a host."""

    @property
    def is_owner(self) -> bool:
        """Return True for the one that fills the store."""

    def tell(self, value: Any = None, /) -> Any:
        """Return what the owner gives, as JSON."""

    def meet(self) -> None:
        """Wait until all have called this."""

    def check(self) -> None:
        """Raise the error of a worker that has ended."""


def show(peers: Peers, pixels: int, board: int, seats: int) -> None:
    """Let the other workers map an array and the board of its pool, given as descriptors, which are closed then."""
    try:
        peers.tell({"pid": os.getpid(), "pixels": pixels, "board": board, "seats": seats})
        peers.meet()
    finally:
        os.close(pixels)
        os.close(board)


def create_board(paths: Sequence[Path], digests: DigestArray, bad: Mapping[int, ImageError]) -> int:
    """Create the board of images that are decoded already; returns its descriptor."""
    descriptor = create_memory("board", Board.size_bytes(len(paths), 1))
    board = Board(descriptor, len(paths), 1)
    board.digests[:] = digests
    board.states[:] = DONE
    board.mark_all_bad(bad, paths)
    return descriptor


class FollowedPool:
    """The pool of processes of another worker; it has the methods of DecodePool that a store needs."""

    def __init__(
        self,
        peers: Peers,
        paths: Sequence[Path],
        shape: tuple[int, ...],
        on_decoded: Callable[[Indices, DigestArray], None],
    ) -> None:
        """Map the array of this shape and its board, as soon as the owner shows them."""
        found = peers.tell()
        folder = f"/proc/{found['pid']}/fd"
        self._check = peers.check
        self.pixels: Pixels = np.frombuffer(_map(f"{folder}/{found['pixels']}"), np.uint8).reshape(shape)
        descriptor = os.open(f"{folder}/{found['board']}", os.O_RDWR | os.O_CLOEXEC)
        self._progress = DecodeProgress(Board(descriptor, len(paths), found["seats"]), paths, on_decoded)
        os.close(descriptor)
        peers.meet()

    @property
    def bad(self) -> dict[int, ImageError]:
        return self._progress.bad

    @property
    def complete(self) -> bool:
        return self._progress.is_complete()

    def prioritize(self, indices: Iterable[int]) -> None:
        """Do nothing: the owner asks for the images of all workers."""

    def wait(self, indices: Indices | None = None, *, until: Callable[[], bool] | None = None) -> None:
        """Wait as DecodePool.wait does; raises the error of a worker that has ended."""
        progress = self._progress
        while True:
            if progress.is_due(indices):
                progress.notice()
                if (until and until()) or progress.are_done(indices):
                    return
                self._check()
            time.sleep(_POLL_SECONDS)


def _map(path: str) -> mmap.mmap:
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
