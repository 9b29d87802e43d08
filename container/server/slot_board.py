"""The memory that the server shares with its decoding processes (slot_pool.py, slot_work.py). No torch. The rules:

1. A slot holds one body and becomes its pixels. The server fills it, writes WAITING, and then writes its number into
   the pipe of a lane: a token.
2. A worker that has read a token notes the slot in its seat, and only then looks at the state. If that is not WAITING,
   or the slot is cancelled, it does not decode. The state is written after the pixels or the reason.
3. The server reuses a slot only when no seat has it. So a token that exists twice, because it was written again when a
   worker was killed, costs work, but never mixes up images.
4. States are written by workers, and by the template for a worker that died; the server writes FREE and WAITING, for
   slots that it has taken back.
"""

import mmap
from collections.abc import Sequence

import numpy as np

from data.decode_board import REASON_BYTES, SEAT_FIELDS, Reasons

FREE, WAITING, DONE, BAD, DROPPED = range(5)  # states of a slot; DROPPED: cancelled before it was decoded
TOKEN_BYTES = 4
_SLOT_FIELDS = 4  # of a byte


class SlotBoard:
    """Arrays that the server and its decoding processes see."""

    def __init__(self, descriptor: int, slots: int, workers: int) -> None:
        """Map the board of a number of slots and of workers."""
        memory = mmap.mmap(descriptor, self.size_bytes(slots, workers))
        numbers = np.frombuffer(memory, np.int64, SEAT_FIELDS * workers + 2 * slots)
        self.seats, numbers = numbers[: SEAT_FIELDS * workers].reshape(workers, -1), numbers[SEAT_FIELDS * workers :]
        self.lengths, self.serials = numbers[:slots], numbers[slots:]  # bytes of the body; the number of the request
        rest = np.frombuffer(memory, np.uint8, offset=self.seats.nbytes + numbers.nbytes)
        parts = (rest[part * slots : (part + 1) * slots] for part in range(_SLOT_FIELDS))
        self.gzipped, self.cancelled, self.lanes, self.states = parts
        self.reasons = Reasons(rest[_SLOT_FIELDS * slots :], slots)

    @staticmethod
    def size_bytes(slots: int, workers: int) -> int:
        """Return the size of the memfd that a board needs."""
        return 8 * (SEAT_FIELDS * workers + 2 * slots) + (_SLOT_FIELDS + REASON_BYTES) * slots


def to_token(slot: int) -> bytes:
    """Return the bytes that stand for a slot in a pipe."""
    return slot.to_bytes(TOKEN_BYTES, "little")


def from_token(token: bytes) -> int:
    """Return the slot of a token."""
    return int.from_bytes(token, "little")


def seats_of_lanes(workers: Sequence[int]) -> list[int]:
    """Return the lane of each seat, from the number of workers in each lane."""
    return [lane for lane, count in enumerate(workers) for _ in range(count)]
