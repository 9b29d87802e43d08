"""The image store: every image of a data set prepared once, as one uint8 array (n, height, width, 3).

It fills itself in the background, and whoever needs rows waits for these only. The array is RAM where it fits into the
budget, else an unlinked scratch file mapped into memory, which the kernel pages as needed; or a file that is kept for
the next job (store_cache.py). Bits are the same in all three.
"""

import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.decoding import Decoding, Indices
from data.images import Pixels, Preparation
from data.store_cache import StoreCache
from runtime.errors import DataError, ImageError
from runtime.process import free_memory_bytes

_GPU_SHARE = 0.4  # of the free memory of a GPU that the store may take


class ImageStore:
    """Prepared images by position: `store.pixels[3]` is the fourth file, (height, width, 3), after `store.wait`."""

    def __init__(
        self,
        paths: Sequence[Path],
        preparation: Preparation,
        *,
        threads: int = 0,
        memory_share: float = 0.5,
        kept: StoreCache | None = None,
        on_bad_image: str = "error",
        max_bad_ratio: float = 0.01,
    ) -> None:
        """Reserve the array and start to decode into it, unless it was kept.

        `memory_share` is the share of the free memory that it may take before it becomes a file. Raises DataError
        where there is no room.
        """
        self.paths = list(paths)
        self.policy = on_bad_image, max_bad_ratio
        shape = (len(self.paths), *preparation.size, 3)
        found = kept.load() if kept else None
        created = kept.create() if kept and not found else None
        self._uncommitted = None if created is None else kept
        if found:
            self.pixels: Pixels = found[0]
        else:
            self.pixels = _reserve(shape, memory_share) if created is None else created
        indices = () if found else range(len(self.paths))
        self._decoding = Decoding(self.paths, preparation, self.pixels, indices, threads)
        self._decoding.bad |= found[1] if found else {}
        self._resident: Tensor | None = None
        weakref.finalize(self, _give_up, self._decoding, kept)  # also when the process ends: no thread may outlive it

    @property
    def bad(self) -> dict[int, ImageError]:
        """What cannot be used, by position, as far as it is known; all of it after `wait()`. These rows are black."""
        return self._decoding.bad

    def prefer(self, indices: Iterable[int]) -> None:
        """Decode these rows next, in this order."""
        if not self._decoding.complete:
            self._decoding.prefer(indices)

    def wait(self, indices: Indices | None = None) -> None:
        """Wait until these rows, or all, are there; raises DataError for images that must not be left out.

        Under `error` that is the first bad one that turns up anywhere, so that none goes unnoticed; the sentence is
        about all of them. Under `skip` it takes all images to know whether there are too many bad ones.
        """
        policy, max_ratio = self.policy
        self._decoding.wait(indices, until_bad=policy == "error")
        if indices is None or (policy == "error" and self.bad):
            self._decoding.wait()
            refuse_or_skip(self.bad, len(self.paths), policy, max_ratio)
            if self._uncommitted:
                self._uncommitted.commit(self.pixels, self.bad)
                self._uncommitted = None

    def on_gpu(self, device: torch.device) -> Tensor | None:
        """All pixels as one tensor on a GPU, if they are decoded and it has room for them; else None."""
        if device.type != "cuda" or not self._decoding.complete:
            return None
        if self._resident is None and self.pixels.nbytes <= _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._resident = torch.empty(self.pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(self.pixels), 1000):  # in parts: a mapped file may be larger than memory
                self._resident[start : start + 1000] = torch.from_numpy(self.pixels[start : start + 1000].copy())
        return self._resident


def _give_up(decoding: Decoding, kept: StoreCache | None) -> None:
    decoding.close()
    if kept:
        kept.discard()


def _reserve(shape: tuple[int, ...], memory_share: float) -> Pixels:
    """An array in memory or, if it is too large for that, in a file; the room on the disk is reserved at once."""
    size = int(np.prod(shape, dtype=np.int64))
    if size <= memory_share * free_memory_bytes():
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile() as file:  # without a name it is gone with the process, however that ends
            os.posix_fallocate(file.fileno(), 0, size)  # a sparse file on a full disk would kill the process later
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"no room for {size} bytes of decoded images ({error.strerror}); raise --store-memory, or point TMPDIR "
            f"at a larger disk: {tempfile.gettempdir()}"
        ) from None


def refuse_or_skip(bad: dict[int, ImageError], total: int, policy: str, max_ratio: float) -> None:
    """Apply `--on-bad-image`: raises DataError that names up to three files, unless they may be left out."""
    if not bad:
        return
    listed = "; ".join(str(bad[index]) for index in sorted(bad)[:3])
    listed += f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    if policy == "error":
        raise DataError(f"{len(bad)} of {total} images cannot be used, mend them or pass --on-bad-image skip: {listed}")
    if len(bad) / total > max_ratio:
        raise DataError(
            f"{len(bad)} of {total} images cannot be used, more than --max-bad-ratio {max_ratio:g} allows: {listed}"
        )
