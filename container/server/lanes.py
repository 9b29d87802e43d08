"""The lanes of the server's decoding processes: who works there, and what an image may cost before it moves on.

A limit alone does not protect honest clients: 64 images that take the full limit each keep every process busy for
minutes. So every image starts in the first lane, whose budget is that of an ordinary image. One that exceeds the
budget, whose header claims more pixels than belong there, or whose file is larger, moves on and is not blamed for it:

    ordinary    one worker for each CPU             2 megapixels of JPEG, 0.4 of other formats, in 1 MiB
    large       as many, at low priority            16 megapixels, such as photographs of phones
    heavy       one, at the lowest priority         everything, within the limits of SERVE_DECODE_*

A lane that is full rejects, so images that wait there cannot fill the server. A batch transform job has no other
clients to protect, and has one lane. No torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from data.decode_board import DecodeLimits

# CPU time of one pixel: at least twice what decoders take, so that slower machines pass. 12 megapixels of JPEG take 15
# to 55 ms on a CPU of 2024, of PNG or WebP about 230 ms.
JPEG_SECONDS, OTHER_SECONDS = 10e-9, 50e-9
PIXEL_BYTES, FILE_COPIES, SPARE_BYTES = 16, 4, 64 << 20  # memory of a decoder
MOST_HEAVY = 8  # images that wait for the heavy worker


@dataclass(frozen=True)
class Claim:
    """The size of a file, and what its header says that decoding will cost; a hostile header says anything."""

    pixels: int = 0
    seconds: float = 0.0  # of CPU
    file_bytes: int = 0

    @classmethod
    def of(cls, kind: str | None, size: tuple[int, int], file_bytes: int = 0) -> Self:
        """Return the claim of an image of a format and of a size in pixels."""
        pixels = size[0] * size[1]
        return cls(pixels, pixels * (JPEG_SECONDS if kind == "JPEG" else OTHER_SECONDS), file_bytes)


@dataclass(frozen=True)
class Lane:
    """Workers with the same budget for each image."""

    workers: int
    niceness: int = 0
    most_waiting: int = 1 << 30  # images
    most_bytes: int = 1 << 62  # of a file
    most_pixels: int = 1 << 62
    most_seconds: float = math.inf  # that a header may claim
    base_seconds: float = math.inf  # the budget, besides twice what the header claims

    def accepts(self, claim: Claim) -> bool:
        """Return whether an image with this claim belongs here, or in a lane before."""
        fits = claim.pixels <= self.most_pixels and claim.seconds <= self.most_seconds
        return fits and claim.file_bytes <= self.most_bytes

    def budget(self, limits: DecodeLimits, file_bytes: int, claim: Claim | None = None) -> tuple[float, int]:
        """Return the CPU time in seconds and the memory in bytes for an image; without a claim, to read its header."""
        if math.isinf(self.base_seconds):
            return limits.cpu_seconds, limits.memory_mb << 20
        pixels, seconds = (claim.pixels, claim.seconds) if claim else (0, 0.0)
        memory = SPARE_BYTES + FILE_COPIES * file_bytes + PIXEL_BYTES * pixels
        return min(self.base_seconds + 2 * seconds, limits.cpu_seconds), min(memory, limits.memory_mb << 20)


def choose_lanes(processes: int, max_waiting: int, *, is_batch: bool) -> Sequence[Lane]:
    """Return the lanes of a server with `processes` workers for ordinary images."""
    if is_batch:
        return (Lane(processes),)
    return (
        Lane(processes, most_bytes=1 << 20, most_pixels=2_000_000, most_seconds=0.02, base_seconds=0.01),
        Lane(
            processes,
            niceness=15,
            most_waiting=max(1, max_waiting // 2),
            most_pixels=16_000_000,
            base_seconds=0.05,
        ),
        Lane(1, niceness=19, most_waiting=MOST_HEAVY),
    )
