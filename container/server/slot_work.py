"""What the server's decoding processes do: a worker reads tokens from the pipe of its lane. No torch, no starlette.

python -P slot_work.py DESCRIPTOR PARENT    started by slot_pool.py, as data/decode_template.py is
"""

import fcntl
import mmap
import os
import resource
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "code"), str(Path(__file__).resolve().parents[1])]

import numpy as np
from PIL import Image

from data.decode_board import IN_HAND, NEXT, NOTHING, DecodeLimits
from data.decode_template import run_template
from data.decode_work import NO_MEMORY, Work, limit_time, take_in_hand
from data.decode_worker import load_decoder
from data.images import Pixels, Preparation
from runtime.errors import ImageError
from server.compression import CompressionError, decompress
from server.lanes import Claim, Lane
from server.slot_board import (
    BAD,
    DONE,
    DROPPED,
    TOKEN_BYTES,
    WAITING,
    SlotBoard,
    from_token,
    seats_of_lanes,
    to_token,
)

NAME = "the image"  # in messages
LOST_LOOKS = 4  # those at which its lane is empty count twice


class BelongsElsewhere(BaseException):
    """The header of an image claims more than its lane accepts; not an Exception, which decoders' errors are."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim


@dataclass
class Pipe:
    """The tokens of the images that wait in a lane."""

    reading: int
    writing: int  # does not block

    def waiting(self) -> int:
        """Return how many tokens are in the pipe."""
        (size,) = struct.unpack("i", fcntl.ioctl(self.reading, termios.FIONREAD, bytes(4)))
        return int(size) // TOKEN_BYTES


@dataclass
class SlotWork(Work):
    """Images in slots, which move through lanes."""

    board: SlotBoard
    bodies: int  # a memfd; the body of a slot begins at slot * slot_bytes
    pixels: Pixels  # (slots, height, width, 3)
    bell: int  # an eventfd that wakes the server
    pipes: Sequence[Pipe]  # of the lanes
    lanes: Sequence[Lane]
    limits: DecodeLimits
    preparation: Preparation
    slot_bytes: int
    most_bytes: int  # of a body, also after it is decompressed
    decoder: Callable[..., Pixels]  # data.images.prepare
    names: Mapping[str, str]

    @classmethod
    def receive(cls, header: Mapping[str, Any], descriptors: Sequence[int]) -> Self:
        board, bodies, pixels, bell, *ends = descriptors
        lanes = [Lane(**record) for record in header["lanes"]]
        shape = header["shape"]
        return cls(
            SlotBoard(board, shape[0], sum(lane.workers for lane in lanes)),
            bodies,
            np.frombuffer(mmap.mmap(pixels, int(np.prod(shape))), np.uint8).reshape(shape),
            bell,
            [Pipe(*ends[start : start + 2]) for start in range(0, len(ends), 2)],
            lanes,
            DecodeLimits(**header["limits"]),
            Preparation.from_dict(header["preparation"]),
            header["slot_bytes"],
            header["most_bytes"],
            load_decoder(header["decoder"]),
            header["names"],
        )

    def __post_init__(self) -> None:
        self.seats = self.board.seats
        self._lane_of_seat = seats_of_lanes([lane.workers for lane in self.lanes])
        self._resolved = 0  # images that the template has marked as bad or moved on
        self._looks: dict[int, int] = {}  # by image: how long it has seemed lost

    # for the template

    def image(self, item: int) -> int:
        return int(self.board.serials[item])

    def is_waiting(self, item: int) -> bool:
        return bool(self.board.states[item] == WAITING)

    def progress(self) -> int:
        return int(self.seats[:, NEXT].sum()) + self._resolved

    def mark_bad(self, item: int, code: str, reason: str) -> None:
        self._resolved += 1
        self.board.reasons.write(item, code, reason)
        self.board.states[item] = BAD
        os.eventfd_write(self.bell, 1)

    def recover(self, seat: int) -> None:
        """Do nothing: the image in hand is judged, and a token that was not noted is found by `heal`."""

    def retry(self, seat: int, item: int) -> None:
        self._queue(item, self._lane_of_seat[seat])

    def move_on(self, seat: int, item: int) -> bool:
        lane = self._lane_of_seat[seat] + 1
        if lane < len(self.lanes):
            self._resolved += 1
            self._queue(item, lane)
        return lane < len(self.lanes)

    def heal(self) -> None:
        """Write the tokens again that went with a worker which was killed after it had read one.

        An image seems lost if no worker has it, and either no token is left in its lane, or it waits in the first lane,
        where nothing takes long. It is given LOST_LOOKS looks, half a second apart.
        """
        waiting = np.flatnonzero(self.board.states.copy() == WAITING)
        in_hand = set(self.seats[:, IN_HAND].tolist())
        is_empty = [not pipe.waiting() for pipe in self.pipes]
        looks = {}
        for slot in waiting.tolist():
            lane, image = int(self.board.lanes[slot]), self.image(slot)
            if slot in in_hand or not (is_empty[lane] or lane == 0):
                continue
            looks[image] = self._looks.get(image, 0) + (2 if is_empty[lane] else 1)
            if looks[image] >= LOST_LOOKS:
                looks[image] = 0
                self._queue(slot, lane)
        self._looks = looks

    def _queue(self, slot: int, lane: int) -> None:
        """Give an image to a lane; it is rejected if that is full."""
        try:
            if self.pipes[lane].waiting() >= self.lanes[lane].most_waiting:
                raise BlockingIOError
            self.board.lanes[slot] = lane
            os.write(self.pipes[lane].writing, to_token(slot))
        except BlockingIOError:
            self.mark_bad(slot, "overloaded", "too many images wait that take long to decode")

    # for a worker

    def run(self, seat: int) -> NoReturn:
        number = self._lane_of_seat[seat]
        os.nice(self.lanes[number].niceness)
        worker = _Worker(self, number, self.seats[seat])
        while True:
            slot = from_token(os.read(self.pipes[number].reading, TOKEN_BYTES))
            take_in_hand(worker.seat, slot)
            if self.is_waiting(slot):
                worker.decode(slot)
            worker.seat[NEXT] += 1
            worker.seat[IN_HAND] = NOTHING
            os.eventfd_write(self.bell, 1)

    def pass_on(self, slot: int, number: int, claim: Claim) -> None:
        """Give an image to the first lane after `number` that accepts what its header claims."""
        self._queue(slot, next(at for at in range(number + 1, len(self.lanes)) if self.lanes[at].accepts(claim)))


class _Worker:
    """One process of a lane."""

    def __init__(self, work: SlotWork, number: int, seat: Any) -> None:
        self.work, self.number, self.seat, self.lane = work, number, seat, work.lanes[number]
        most, self._hard = resource.getrlimit(resource.RLIMIT_AS)
        self._mapped = most - (work.limits.memory_mb << 20)  # before the first image

    def decode(self, slot: int) -> None:
        """Decode the image in a slot, or pass it on."""
        work = self.work
        if work.board.cancelled[slot]:
            work.board.states[slot] = DROPPED
            return
        size = int(work.board.lengths[slot])
        if not self.lane.accepts(unread := Claim(file_bytes=size)):
            work.pass_on(slot, self.number, unread)
            return

        def admit(image: Image.Image) -> None:
            claim = Claim.of(image.format, image.size, size)
            if not self.lane.accepts(claim):
                raise BelongsElsewhere(claim)
            self._limit(size, claim)

        try:
            self._limit(size)
            try:
                body = os.pread(work.bodies, size, slot * work.slot_bytes)
                data = decompress(body, work.most_bytes) if work.board.gzipped[slot] else body
                work.pixels[slot] = work.decoder(data, work.preparation, NAME, admit)
            finally:
                limit_time(0, 0)
            work.board.states[slot] = DONE
        except BelongsElsewhere as found:
            work.pass_on(slot, self.number, found.claim)
        except CompressionError as error:
            work.mark_bad(slot, error.code, str(error))
        except ImageError as error:
            work.mark_bad(slot, error.code, str(error).removesuffix(f": {NAME}"))
        except MemoryError:
            os._exit(NO_MEMORY)  # libraries are not trusted after it, and there is no memory to say more

    def _limit(self, file_bytes: int, claim: Claim | None = None) -> None:
        """Set the limits of the lane: to read the header, and then for what that claims."""
        seconds, memory = self.lane.budget(self.work.limits, file_bytes, claim)
        resource.setrlimit(resource.RLIMIT_AS, (min(self._mapped + memory, self._hard), self._hard))
        limit_time(seconds, self.work.limits.seconds)


if __name__ == "__main__":
    run_template(SlotWork)
