"""Images decoded in order for a single pass, ahead of the caller. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.decode_board import DecodeLimits
from data.decode_pool import PREPARE, DecodePool, SharedPixels
from data.digests import DIGEST_BYTES
from data.images import Pixels, Preparation
from runtime.errors import ImageError

_AHEAD = 2  # batches


@dataclass(frozen=True)
class Outcome:
    """The result of decoding one file: the digest of its bytes, and why the image is black if it cannot be used."""

    digest: bytes  # no bytes if the file cannot be read
    error: ImageError | None = None


def stream(
    paths: Sequence[Path],
    preparation: Preparation,
    *,
    batch_size: int,
    processes: int = 0,
    limits: DecodeLimits | None = None,
    decoder: str = PREPARE,
) -> Iterator[tuple[Pixels, list[Outcome]]]:
    """Prepare files in order, batch by batch and two batches ahead of the caller: for a single pass without a store.

    Yields pixels (batch, height, width, 3) and the outcome of each image. `decoder` is the `module:function` that the
    pool calls. Raises DecodingError if no image can be decoded any more.
    """
    if not paths:
        return
    slots = min(len(paths), _AHEAD * batch_size)
    target = SharedPixels.in_memory((slots, *preparation.size, 3))
    digests = np.zeros((len(paths), DIGEST_BYTES), np.uint8)
    pool = DecodePool(
        paths,
        preparation,
        target,
        processes=processes,
        limits=limits,
        on_decoded=digests.__setitem__,
        decoder=decoder,
    )
    try:
        for start in range(0, len(paths), batch_size):
            indices = np.arange(start, min(start + batch_size, len(paths)))
            pool.wait(indices)
            pixels: Pixels = target.array[indices % slots]
            pool.release(start + batch_size)
            found = [digests[index].tobytes() if digests[index].any() else b"" for index in indices]
            yield pixels, [Outcome(digest, pool.bad.get(int(i))) for i, digest in zip(indices, found, strict=True)]
    finally:
        pool.close()
