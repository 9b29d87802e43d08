"""A process of a pool that decodes images (decode_pool.py), one at a time, in the order of the board. No torch."""

import mmap
import os
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

import numpy as np

from data.decode_board import (
    CURSOR,
    DONE,
    IN_HAND,
    LAST,
    NEXT,
    NOTHING,
    Board,
    DecodeLimits,
    PathTable,
)
from data.decode_work import NO_MEMORY, Work, limit_time, take_in_hand
from data.digests import content_digest
from data.images import Pixels, Preparation, read_file
from runtime.errors import ImageError


@dataclass
class OrderedWork(Work):
    """Images by index, whose order is on the board; image i lies in slot i modulo slots."""

    board: Board
    paths: PathTable
    pixels: Pixels  # (slots, height, width, 3)
    preparation: Preparation
    limits: DecodeLimits
    bell: int  # an eventfd that wakes the parent
    gate: int  # an eventfd that can be read while there are images to take
    chunk: int  # images taken at a time, at most
    decoder: Callable[[bytes, Preparation, str], Pixels]  # data.images.prepare
    names: Mapping[str, str] = field(default_factory=lambda: {"threads": "--threads", "memory": "--decode-memory-mb"})

    @classmethod
    def receive(cls, header: Mapping[str, Any], descriptors: Sequence[int]) -> Self:
        pixels, board, paths, bell, gate = descriptors
        shape, images = header["shape"], header["images"]
        return cls(
            Board(board, images, header["workers"]),
            PathTable(paths, images),
            np.frombuffer(mmap.mmap(pixels, int(np.prod(shape))), np.uint8).reshape(shape),
            Preparation.from_dict(header["preparation"]),
            DecodeLimits(**header["limits"]),
            bell,
            gate,
            header["chunk"],
            load_decoder(header["decoder"]),
        )

    def __post_init__(self) -> None:
        self.seats = self.board.seats

    def is_waiting(self, item: int) -> bool:
        return not self.board.states[item]

    def progress(self) -> int:
        return int(self.board.header[CURSOR] + self.seats[:, NEXT].sum())

    def recover(self, seat: int) -> None:
        with self.board.locked():
            self.board.give_back(seat)

    def retry(self, seat: int, item: int) -> None:
        """Do nothing: the successor in the seat continues with the image."""

    def heal(self) -> None:
        """Do nothing: an image belongs to a seat, or is not taken yet, so none is lost."""

    def mark_bad(self, item: int, code: str, reason: str) -> None:
        """Report an image that cannot be used, at once; it becomes black."""
        self.pixels[item % len(self.pixels)] = 0
        self.board.mark_bad(item, code, reason)
        os.eventfd_write(self.bell, 1)

    def run(self, seat: int) -> None:
        board, own = self.board, self.seats[seat]
        while True:
            while (position := own[NEXT]) < own[LAST]:
                index = int(board.order[position])
                if not board.states[index]:  # the worker before may have been killed just after it
                    take_in_hand(own, index)
                    self._decode(index)
                    own[IN_HAND] = NOTHING
                own[NEXT] = position + 1
            os.eventfd_write(self.bell, 1)
            with board.locked():
                found = board.take(seat, self.chunk)
                if not found:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self.gate)
                    if board.header[CURSOR] == len(board.order):
                        return
            if not found:
                select.select([self.gate], [], [])

    def _decode(self, index: int) -> None:
        path = self.paths[index]
        try:
            data = read_file(path)  # outside the limits of time: a slow file system is not the fault of an image
            self.board.digests[index] = np.frombuffer(content_digest(data), np.uint8)
            limit_time(self.limits.cpu_seconds, self.limits.seconds)
            try:
                self.pixels[index % len(self.pixels)] = self.decoder(data, self.preparation, str(path))
            finally:
                limit_time(0, 0)
            self.board.states[index] = DONE
        except ImageError as error:
            self.mark_bad(index, error.code, str(error).removesuffix(f": {path}"))
        except MemoryError:
            os._exit(NO_MEMORY)  # libraries are not trusted after it, and there is no memory to say more


def load_decoder(name: str) -> Callable[..., Pixels]:
    """Return the function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Pixels] = getattr(import_module(module), function)
    return found
