"""Bodies are decoded in processes with limits: the slots as the server sees them. No torch.

    slot = slots.reserve()
    slots.submit(slot, parts_of_the_body, is_gzipped=False)
    slots.wait()      the slots that are decoded, in the thread of the model
    slots.pixels[slot], or slots.error(slot)
    slots.release([slot])

`reserve`, `submit`, `cancel`, `release` and `reset` belong to the event loop; `wait`, `take` and `error` to the thread
of the model. slot_board.py has the rules, lanes.py says who decodes.
"""

import mmap
import os
import select
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.decode_board import IN_HAND, DecodeLimits, create_memory
from data.decode_pool import SharedPixels
from data.images import Preparation
from data.template_process import TemplateProcess, take_template
from runtime.errors import DecodingError, ImageError
from server.lanes import Lane
from server.slot_board import BAD, DONE, FREE, WAITING, SlotBoard, to_token

SCRIPT = Path(__file__).with_name("slot_work.py")
NAMES = {"threads": "SERVE_THREADS", "memory": "SERVE_DECODE_MEMORY_MB"}
NOTICE_SECONDS = 1.0  # between looks at other things while the thread of the model waits
MOST_KEPT_BYTES = 192 << 20  # pages of bodies that are used again; new ones make a copy take three times as long
_MOST_PARTS = 512  # of a body in one system call; IOV_MAX is 1024


class NoSlotError(Exception):
    """All slots are in use."""


@dataclass(frozen=True)
class Decoding:
    """How bodies become pixels."""

    preparation: Preparation
    limits: DecodeLimits
    most_bytes: int  # of a body, also after it is decompressed
    decoder: str = "data.images:prepare"  # for tests: the `module:function` that is called instead


class SlotPool:
    """Slots for bodies, and the processes that decode them."""

    def __init__(self, decoding: Decoding, lanes: Sequence[Lane], slots: int) -> None:
        """Start the processes; raise DecodingError if that is not possible."""
        workers = sum(lane.workers for lane in lanes)
        page = mmap.PAGESIZE
        self._slot_bytes = -(-decoding.most_bytes // page) * page
        self._bodies = create_memory("bodies", slots * self._slot_bytes)
        board = create_memory("board", SlotBoard.size_bytes(slots, workers))
        self._board = SlotBoard(board, slots, workers)
        target = SharedPixels.in_memory((slots, *decoding.preparation.size, 3))
        self.pixels = target.array
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        ends = [end for _ in lanes for end in os.pipe()]
        for writing in ends[1::2]:
            os.set_blocking(writing, False)
        self._tokens = ends[1]
        self._free, self._held, self._serial = list(range(slots))[::-1], list[int](), 0
        self._kept, self._kept_bytes = [0] * slots, 0  # bytes of pages, by slot and of all of them
        self._template = take_template(SCRIPT)
        self._events = select.poll()
        self._events.register(self._bell, select.POLLIN)
        self._events.register(self._template.control, select.POLLIN)
        own = (self._bodies, self._bell, self._tokens)
        self._close = weakref.finalize(self, _close, self._template, own)  # also at exit
        header = {
            "lanes": [asdict(lane) for lane in lanes],
            "limits": asdict(decoding.limits),
            "shape": self.pixels.shape,
            "preparation": decoding.preparation.to_dict(),
            "slot_bytes": self._slot_bytes,
            "most_bytes": decoding.most_bytes,
            "decoder": decoding.decoder,
            "names": NAMES,
        }
        self._template.hand_over(header, [board, self._bodies, target.descriptor, self._bell, *ends])
        for descriptor in (board, target.descriptor, *ends):
            if descriptor != self._tokens:
                os.close(descriptor)

    def reserve(self) -> int:
        """Return a free slot; raise NoSlotError if there is none."""
        if self._held:
            held, self._held = self._held, []
            self.release(held)
        if not self._free:
            raise NoSlotError
        return self._free.pop()

    def submit(self, slot: int, parts: Sequence[bytes | bytearray], *, is_gzipped: bool) -> None:
        """Fill a reserved slot with a body and let it be decoded; raise NoSlotError if there is no room for it."""
        board, offset = self._board, slot * self._slot_bytes
        if not self._close.alive:
            raise NoSlotError
        try:
            for start in range(0, len(parts), _MOST_PARTS):
                offset += os.pwritev(self._bodies, parts[start : start + _MOST_PARTS], offset)
            self._serial += 1
            board.lengths[slot], board.serials[slot] = offset - slot * self._slot_bytes, self._serial
            board.gzipped[slot], board.cancelled[slot], board.lanes[slot] = is_gzipped, False, 0
            board.states[slot] = WAITING
            os.write(self._tokens, to_token(slot))
        except OSError:  # no memory, a full pipe, or processes that have ended
            board.states[slot] = FREE
            raise NoSlotError from None

    def cancel(self, slot: int) -> None:
        """Let a slot pass without being decoded, if it is not too late."""
        self._board.cancelled[slot] = True

    def wait(self) -> list[int]:
        """Wait a moment for slots that are no longer waiting, and return those that there are, oldest first.

        Raises DecodingError if the processes have ended.
        """
        if len(ready := self._ready()):
            return ready
        events = [descriptor for descriptor, _ in self._events.poll(1000 * NOTICE_SECONDS)]
        if self._bell in events:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        elif events:
            raise DecodingError(self._template.reason())
        return self._ready()

    def wake(self) -> None:
        """Let `wait` return."""
        if self._close.alive:
            os.eventfd_write(self._bell, 1)

    def take(self, slots: Sequence[int]) -> None:
        """Do not return these slots from `wait` again."""
        self._board.states[slots] = FREE

    def error(self, slot: int) -> ImageError | None:
        """Return why the image in a slot cannot be used, or None; its code may be one of server/compression.py, too."""
        if self._board.states[slot] != BAD:
            return None
        code, reason = self._board.reasons.read(slot)
        return ImageError(reason, code)

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be reused, as soon as no process has them."""
        in_hand = set(self._board.seats[:, IN_HAND].tolist())
        for slot in slots:
            if slot in in_hand:
                self._held.append(slot)
                continue
            self._keep(slot, int(self._board.lengths[slot]))
            self._free.append(slot)

    def reset(self, slot: int) -> None:
        """Forget what a process wrote into a slot that nobody uses."""
        self._board.states[slot] = FREE

    def close(self) -> None:
        """End the processes."""
        self._close()

    def _ready(self) -> list[int]:
        states = self._board.states.copy()  # workers write while numpy reads
        ready = np.flatnonzero(states >= DONE)
        found: list[int] = ready[np.argsort(self._board.serials[ready])].tolist()
        return found

    def _keep(self, slot: int, size: int) -> None:
        """Keep the pages of a body for the next one in its slot, or give them back if that would be too much memory."""
        more = max(0, size - self._kept[slot])
        if self._kept_bytes + more <= MOST_KEPT_BYTES:
            self._kept[slot] += more
            self._kept_bytes += more
        else:
            self._kept_bytes -= self._kept[slot]
            self._kept[slot] = 0
            self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        """Return the pages of a body to the system."""
        self._board.lengths[slot] = 0
        with (
            suppress(OSError, ValueError),  # not every kernel can, and then they are used again
            mmap.mmap(self._bodies, self._slot_bytes, offset=slot * self._slot_bytes) as body,
        ):
            body.madvise(mmap.MADV_REMOVE)


def _close(template: TemplateProcess, descriptors: Iterable[int]) -> None:
    template.close()
    for descriptor in descriptors:
        os.close(descriptor)
