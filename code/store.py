"""The image store: every picture of a data set prepared once, as one uint8 array (n, height, width, 3).

Filled by threads (Pillow releases the interpreter while it decodes; no worker processes, so no /dev/shm). The array is
RAM where it fits into the budget, else an unlinked scratch file mapped into memory, which the kernel pages as needed.
What a slot holds depends on its file and the preparation only, never on the number of threads.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from environment import cpu_count, free_memory_bytes
from errors import DataError, ImageError
from images import Pixels, Preparation, prepare

Outcomes = Iterable[ImageError | None]
Progress = Callable[[Outcomes], Outcomes]  # wraps what is iterated over, such as a progress bar


class ImageStore:
    """Prepared pictures by position: `store.pixels[3]` is the fourth file, (height, width, 3)."""

    def __init__(
        self,
        paths: Sequence[Path],
        preparation: Preparation,
        *,
        threads: int = 0,
        memory_share: float = 0.5,
        scratch_dir: Path | None = None,
    ) -> None:
        """Reserve the array; `memory_share` is the share of the free memory it may take before it becomes a file."""
        self.paths = list(paths)
        self.preparation = preparation
        self.threads = threads or cpu_count()
        shape = (len(self.paths), *preparation.size, 3)
        self.in_memory = int(np.prod(shape, dtype=np.int64)) <= memory_share * free_memory_bytes()
        self.pixels: Pixels = np.empty(shape, np.uint8) if self.in_memory else _scratch_array(shape, scratch_dir)

    def fill(self, progress: Progress = iter) -> dict[int, ImageError]:
        """Decode every file into its slot; returns what cannot be used, by position. Those slots are black."""
        with ThreadPoolExecutor(self.threads) as pool:
            outcomes = list(progress(pool.map(self._decode, range(len(self.paths)))))
        return {index: error for index, error in enumerate(outcomes) if error is not None}

    def _decode(self, index: int) -> ImageError | None:
        try:
            self.pixels[index] = prepare(self.paths[index], self.preparation)
        except ImageError as error:
            self.pixels[index] = 0
            return error
        return None


def _scratch_array(shape: tuple[int, ...], folder: Path | None) -> Pixels:
    """An array in a file without a name: it is gone with the process, however that ends."""
    size = int(np.prod(shape, dtype=np.int64))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a sparse file on a full disk would kill the process later
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"no room for {size} bytes of decoded pictures ({error.strerror}); raise --store-memory, or point "
            f"TMPDIR at a larger disk: {folder or tempfile.tempdir or 'TMPDIR'}"
        ) from None


def refuse_or_skip(bad: dict[int, ImageError], total: int, policy: str, max_ratio: float) -> None:
    """Apply `--on-bad-image`: raises DataError that names up to three files, unless they may be left out."""
    if not bad:
        return
    listed = "; ".join(str(bad[index]) for index in sorted(bad)[:3])
    listed += f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    if policy == "error":
        raise DataError(
            f"{len(bad)} of {total} pictures cannot be used, mend them or pass --on-bad-image skip: {listed}"
        )
    if len(bad) / total > max_ratio:
        raise DataError(
            f"{len(bad)} of {total} pictures cannot be used, more than --max-bad-ratio {max_ratio:g} allows: {listed}"
        )


def stream(
    paths: Sequence[Path], preparation: Preparation, *, batch_size: int, threads: int = 0
) -> Iterator[tuple[Pixels, list[ImageError | None]]]:
    """Prepare files batch by batch, in order, one batch ahead of the caller: for a single pass that keeps nothing.

    Yields pixels (batch, height, width, 3) and, for each, why it is black instead of a picture, or None.
    """
    with ThreadPoolExecutor(1) as ahead:
        pending: deque[Future[tuple[Pixels, list[ImageError | None]]]] = deque()
        for start in range(0, len(paths), batch_size):
            pending.append(ahead.submit(_prepare_batch, paths[start : start + batch_size], preparation, threads))
            if len(pending) > 1:
                yield pending.popleft().result()
        if pending:
            yield pending.popleft().result()


def _prepare_batch(
    paths: Sequence[Path], preparation: Preparation, threads: int
) -> tuple[Pixels, list[ImageError | None]]:
    store = ImageStore(paths, preparation, threads=threads, memory_share=1.0)
    bad = store.fill()
    return store.pixels, [bad.get(index) for index in range(len(paths))]
