"""The memory that a pool of decoding processes shares (decode_pool.py, decode_worker.py). No torch.

It lies in memfds: files in memory without a name, which need no /dev/shm and no folder. The rules:

1. `order` holds the indices of the images that are to be decoded, in that order. Positions below the cursor are taken,
   those from the limit on may not be taken yet. Whoever changes the cursor, the limit or `order` holds the lock, which
   the kernel gives back if the holder is killed.
2. Each worker has a seat, which only it writes, and the template once the worker is dead: the positions that it has
   taken, and the image in its hands. Its successor continues with them.
3. The state of an image is written last, after its pixels, digest and reason. It changes once, and it alone tells
   whether the image is decoded.
"""

import fcntl
import mmap
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.digests import DIGEST_BYTES
from runtime.errors import ImageError

WAITING, DONE, BAD = 0, 1, 2  # states of an image
CURSOR, LIMIT = 0, 1  # the header: positions in `order`
NEXT, LAST, IN_HAND, CPU_NANOSECONDS, READY = range(5)  # a seat; CPU: of the worker when it took the image in hand
NOTHING = -1  # in hand

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # blocked: they are for the parent
SEAT_FIELDS, REASON_BYTES = 8, 512  # for each worker, for each image
_HEADER_FIELDS = 2


@dataclass(frozen=True)
class DecodeLimits:
    """What the decoding of one image may cost; the kernel ends a process that exceeds a limit.

    The time in which the file is read does not count: a slow file system is not the fault of an image.
    """

    cpu_seconds: float = 5.0
    seconds: float = 60.0  # in all; for a decoder that hangs without using the CPU
    memory_mb: int = 1024  # MiB of address space

    @classmethod
    def from_options(cls, cpu_seconds: float, memory_mb: int) -> Self:
        """Create the limits of `--decode-seconds` and `--decode-memory-mb`; the time in all follows the CPU time."""
        return cls(cpu_seconds, max(60.0, 12 * cpu_seconds), memory_mb)


def create_memory(name: str, size_bytes: int) -> int:
    """Create memory that processes can share, which is taken as it is filled; returns its descriptor."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.truncate(descriptor, size_bytes)
    return descriptor


class Board:
    """The shared state of a pool: arrays that all its processes see."""

    def __init__(self, descriptor: int, images: int, workers: int) -> None:
        """Map the board of a number of images and of workers."""
        self.descriptor, self._memory = descriptor, mmap.mmap(descriptor, self.size_bytes(images, workers))
        seats_end = 8 * (_HEADER_FIELDS + SEAT_FIELDS * workers)
        numbers = np.frombuffer(self._memory, np.int64, seats_end // 8)
        self.header, self.seats = numbers[:_HEADER_FIELDS], numbers[_HEADER_FIELDS:].reshape(workers, SEAT_FIELDS)
        self.order = np.frombuffer(self._memory, np.int32, images, seats_end)
        rest = np.frombuffer(self._memory, np.uint8, offset=seats_end + 4 * images)
        self.states, rest = rest[:images], rest[images:]
        self.digests, rest = rest[: DIGEST_BYTES * images].reshape(images, -1), rest[DIGEST_BYTES * images :]
        self.reasons = Reasons(rest, images)

    @staticmethod
    def size_bytes(images: int, workers: int) -> int:
        """Return the size of the memfd that a board needs."""
        return 8 * (_HEADER_FIELDS + SEAT_FIELDS * workers) + (4 + 1 + DIGEST_BYTES + REASON_BYTES) * images

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of rule 1. It belongs to the process: threads need another one besides."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def take(self, seat: int, most: int) -> bool:
        """Give a seat up to `most` positions; return False if there are none to take now. The lock must be held.

        The positions belong to the seat when the cursor is behind them. A worker that is killed before that has taken
        nothing, see `give_back`.
        """
        cursor, limit = self.header[CURSOR], self.header[LIMIT]
        share = (limit - cursor) // (2 * len(self.seats))  # the last images are shared out one by one
        end = min(limit, cursor + max(1, min(most, share)))
        self.seats[seat, NEXT], self.seats[seat, LAST] = cursor, end
        self.header[CURSOR] = end
        return bool(cursor < end)

    def give_back(self, seat: int) -> None:
        """Take from the seat of a dead worker what it has not quite taken. The lock must be held."""
        if self.seats[seat, LAST] > self.header[CURSOR]:
            self.seats[seat, NEXT] = self.seats[seat, LAST] = 0

    def mark_bad(self, index: int, code: str, reason: str) -> None:
        """Report an image that cannot be used."""
        self.reasons.write(index, code, reason)
        self.states[index] = BAD

    def mark_all_bad(self, errors: Mapping[int, ImageError], paths: Sequence[Path]) -> None:
        """Report the images with these errors, by index; a reason does not repeat the path at the end of its error."""
        for index, error in errors.items():
            self.mark_bad(index, error.code, str(error).removesuffix(f": {paths[index]}"))


class Reasons:
    """Why images cannot be used, by index; takes up memory only where there is a reason."""

    def __init__(self, memory: NDArray[np.uint8], images: int) -> None:
        """Use memory of REASON_BYTES for each image."""
        self._texts = memory.reshape(images, REASON_BYTES)

    def write(self, index: int, code: str, reason: str) -> None:
        """Write the code and the reason of an image, shortened if they are long."""
        text = f"{code}\0{reason}".encode(errors="replace")[:REASON_BYTES].ljust(REASON_BYTES, b"\0")
        self._texts[index] = np.frombuffer(text, np.uint8)

    def read(self, index: int) -> tuple[str, str]:
        """Return the code and the reason of an image."""
        code, _, reason = self._texts[index].tobytes().rstrip(b"\0").decode(errors="ignore").partition("\0")
        return code, reason


class PathTable:
    """The paths of all images, in a memfd."""

    def __init__(self, descriptor: int, images: int) -> None:
        memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        self._ends = np.frombuffer(memory, np.int64, images + 1)
        self._text = memoryview(memory)[8 * (images + 1) :]

    @staticmethod
    def create(paths: Sequence[Path]) -> int:
        """Write paths into a new memfd; returns its descriptor."""
        encoded = [os.fsencode(path) for path in paths]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        descriptor = os.memfd_create("paths", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(ends.tobytes() + b"".join(encoded))
        return descriptor

    def __getitem__(self, index: int) -> Path:
        return Path(os.fsdecode(bytes(self._text[self._ends[index] : self._ends[index + 1]])))
