"""The image store: every image of a data set, prepared once, as one uint8 array (n, height, width, 3).

Processes fill the array while training starts (decode_pool.py), and a caller waits only for the images it needs. The
array lies in memory if it fits into the budget; otherwise in an unnamed temporary file that is mapped into memory and
paged by the kernel; or in the store cache, a file that the next job reuses (store_cache.py). The pixels are the same.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from data.decode_board import DecodeLimits
from data.decode_pool import DecodePool, SharedPixels
from data.decode_progress import Indices
from data.digests import ImageDigests
from data.images import Pixels, Preparation
from data.resident_pixels import ResidentPixels
from data.shared_store import FollowedPool, Peers, create_board, show
from data.store_cache import StoreCache
from runtime.errors import DataError, ImageError
from runtime.process import free_memory_bytes


class ImageStore:
    """Prepared images by index: after `store.wait`, `store.pixels[3]` is the fourth file, (height, width, 3)."""

    def __init__(
        self,
        paths: Sequence[Path],
        preparation: Preparation,
        *,
        processes: int = 0,
        limits: DecodeLimits | None = None,
        memory_share: float = 0.5,
        cache: StoreCache | None = None,
        on_bad_image: str = "error",
        max_bad_ratio: float = 0.01,
        left_out: Mapping[int, ImageError] | None = None,
        peers: Peers | None = None,
    ) -> None:
        """Allocate the array and start to decode into it, unless the cache has it.

        `memory_share` is the share of the free memory that the array may take; a larger one becomes a file. The images
        in `left_out`, by index, are bad without being decoded. Among `peers` the owner does all this, and the others
        map its array. Raises DataError if the disk has no room for the array.
        """
        self.paths = list(paths)
        self.policy = on_bad_image, max_bad_ratio
        self.resident = ResidentPixels()
        self.digests = ImageDigests(self.paths)  # of the images decoded so far; with a warm cache, of all
        self._bad = dict(left_out or {})
        self._pool: DecodePool | FollowedPool | None = None
        self._uncommitted: StoreCache | None = None
        self.pixels: Pixels
        if peers and not peers.is_owner:
            shape = (len(self.paths), *preparation.size, 3)
            self._pool = FollowedPool(peers, self.paths, shape, self.digests.record)
            self.pixels = self._pool.pixels
        elif cache and (found := cache.load()):
            self.pixels, self._bad = found[0], self._bad | found[1]
            self.digests.record_all(cache.digests)
            if peers:
                show(peers, os.dup(cache.descriptor), create_board(self.paths, cache.digests, self._bad), 1)
        else:
            created = cache.create() if cache else None
            self._uncommitted = cache if created else None
            target = created or _allocate((len(self.paths), *preparation.size, 3), memory_share)
            self.pixels, descriptor = target.array, os.dup(target.descriptor) if peers else -1
            self._pool = DecodePool(
                self.paths,
                preparation,
                target,
                processes=processes,
                limits=limits,
                left_out=left_out,
                on_decoded=self.digests.record,
            )
            if peers:
                board, seats = self._pool.board
                show(peers, descriptor, os.dup(board), seats)
        if cache:
            weakref.finalize(self, cache.discard)

    @property
    def bad(self) -> dict[int, ImageError]:
        """Return the images that cannot be used, by index, as found so far; all are known after `wait()`.

        Their pixels are black.
        """
        return self._pool.bad if self._pool else self._bad

    @property
    def complete(self) -> bool:
        """Return True if all images are decoded."""
        return self._pool is None or self._pool.complete

    def prioritize(self, indices: Iterable[int]) -> None:
        """Decode the images at these indices next, in this order."""
        if self._pool:
            self._pool.prioritize(indices)

    def wait(self, indices: Indices | None = None) -> None:
        """Wait until the images at these indices, or all, are decoded; raises DataError as the policy says.

        Raises CheckpointError as soon as an image anywhere in the data set is not as `digests` expects.

        Under `error`, the first bad image anywhere in the data set ends the wait, so that none goes unnoticed; all are
        decoded before the error is raised, because it counts them. Under `skip`, only `wait()` can tell whether there
        are too many.
        """
        policy, max_ratio = self.policy
        self._wait(indices, until_bad=policy == "error")
        if indices is None or (policy == "error" and self.bad):
            self._wait(None)
            apply_bad_image_policy(self.bad, len(self.paths), policy, max_ratio)
            if self._uncommitted:
                self._uncommitted.commit(self.pixels, self.bad, self.digests.known())
                self._uncommitted = None

    def _wait(self, indices: Indices | None, *, until_bad: bool = False) -> None:
        if self._pool:
            self._pool.wait(indices, until=lambda: self.digests.any_changed or (until_bad and bool(self.bad)))
        self.digests.check()

    def move_to_gpu(self, device: torch.device) -> None:
        """Copy all pixels to a GPU, where `resident` has them then, if it has room and they are decoded."""
        if device.type == "cuda" and self.complete:
            self.resident.fill(self.pixels, device)


def _allocate(shape: tuple[int, ...], memory_share: float) -> SharedPixels:
    """Create an array in memory or, if it is too large for that, in a temporary file whose disk space is reserved."""
    size = int(np.prod(shape, dtype=np.int64))
    if size <= memory_share * free_memory_bytes():
        return SharedPixels.in_memory(shape)
    try:
        with tempfile.TemporaryFile() as file:  # it has no name, so it is gone when the process ends, even if killed
            os.posix_fallocate(file.fileno(), 0, size)  # a sparse file on a full disk would kill the process later
            return SharedPixels.in_file(file, shape)
    except OSError as error:
        raise DataError(
            f"no room for {size} bytes of decoded images ({error.strerror}); raise --store-memory, or point TMPDIR "
            f"at a larger disk: {tempfile.gettempdir()}"
        ) from None


def apply_bad_image_policy(bad: dict[int, ImageError], total: int, policy: str, max_ratio: float) -> None:
    """Raise DataError, naming up to three files, if `--on-bad-image` and `--max-bad-ratio` do not allow bad images.

    `bad` maps index to error; `total` is the number of images; `policy` is `error` (none are allowed) or `skip` (a
    share of at most `max_ratio`).
    """
    if not bad:
        return
    listed = "; ".join(str(bad[index]) for index in sorted(bad)[:3])
    listed += f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    if policy == "error":
        raise DataError(f"{len(bad)} of {total} images cannot be used, fix them or pass --on-bad-image skip: {listed}")
    if len(bad) / total > max_ratio:
        raise DataError(
            f"{len(bad)} of {total} images cannot be used, more than --max-bad-ratio {max_ratio:g} allows: {listed}"
        )
