"""Digests of image files, which tell whether an image is the one that was there before. No torch. The rules:

1. Identity is content: a file is the same image if the sha256 of all its bytes is the same. Names, sizes and times do
   not tell: uncompressed images of one shape have one size, and tools that copy keep the times.
2. A digest is compared whole, never a part of it.
3. The digest of an image that is decoded or posted is that of the bytes that were decoded or posted; the file is not
   read twice, so it cannot change in between.
4. A file that cannot be read has no digest, which is written as no bytes, or as zeros in an array.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.images import MAX_BYTES
from runtime.errors import CheckpointError
from runtime.files import open_regular
from runtime.process import cpu_count

DIGEST_BYTES = 32
DigestArray = NDArray[np.uint8]  # (images, 32); zeros where a digest is not known


def content_digest(data: bytes) -> bytes:
    """Return the sha256 of the bytes of a file."""
    return hashlib.sha256(data).digest()


def file_digest(path: Path) -> bytes:
    """Return the sha256 of a file; no bytes if it cannot be read, is no regular file, or is larger than any image."""
    try:
        with open_regular(path, MAX_BYTES) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def file_digests(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the digest of each file, in order; several are read at the same time."""
    pool = ThreadPoolExecutor(cpu_count(), "digest")
    try:
        yield from pool.map(file_digest, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def as_array(digests: Sequence[bytes]) -> DigestArray:
    """Return digests as an array (images, 32)."""
    joined = b"".join(digest or bytes(DIGEST_BYTES) for digest in digests)
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES)


def check_digests(digests: DigestArray, images: int) -> DigestArray:
    """Return stored digests; raise ValueError if they are not those of so many images."""
    if digests.dtype != np.uint8 or digests.shape != (images, DIGEST_BYTES):
        raise ValueError(f"the digests are not those of {images} images")
    return digests


class ImageDigests:
    """The digests of a data set, known image by image, and compared with those of the checkpoint it is resumed from.

    Threads may record while others read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Know no digest yet, and expect none."""
        self._paths = paths
        self._known: DigestArray = np.zeros((len(paths), DIGEST_BYTES), np.uint8)
        self._expected: DigestArray | None = None
        self._changed: set[int] = set()  # indices of images that are not as expected
        self._lock = threading.Lock()

    @property
    def any_changed(self) -> bool:
        return bool(self._changed)

    def record(self, indices: NDArray[np.int64], digests: DigestArray) -> None:
        """Add the digests (images, 32) of the images at these indices."""
        with self._lock:
            self._known[indices] = digests
            self._compare(indices)

    def record_all(self, digests: DigestArray) -> None:
        """Add the digests of all images (images, 32)."""
        with self._lock:
            self._known[:] = digests
            self._compare(np.arange(len(self._known)))

    def expect(self, digests: DigestArray) -> None:
        """Compare all images with these digests (images, 32) of an earlier run: now, and as more are recorded."""
        with self._lock:
            self._expected = digests
            self._compare(np.arange(len(self._known)))

    def check(self) -> None:
        """Raise CheckpointError, naming one file, if an image is not as expected."""
        if not self._changed:
            return
        with self._lock:
            count, path = len(self._changed), self._paths[min(self._changed)]
        changed = "an image has changed" if count == 1 else f"{count} images have changed"
        raise CheckpointError(
            f"{changed} since the checkpoint was made, expected the same bytes; restore what changed, or pass --resume "
            f"never to start from scratch, --resume force to resume anyway, or give another SM_CHECKPOINT_DIR: {path}"
        )

    def known(self) -> DigestArray:
        """Return a copy (images, 32) of the digests recorded so far."""
        with self._lock:
            return self._known.copy()

    def to_save(self) -> DigestArray:
        """Return the digests (images, 32) for the next checkpoint: the expected ones, and where none is, those known.

        So a checkpoint never has the digest of a changed image, and loses none that is not recorded again yet.
        """
        known = self.known()
        return (
            known if self._expected is None else np.where(self._expected.any(1, keepdims=True), self._expected, known)
        )

    def _compare(self, indices: NDArray[np.int64]) -> None:
        if self._expected is None:
            return
        known, expected = self._known[indices], self._expected[indices]
        differ = (known != expected).any(1) & known.any(1) & expected.any(1)
        self._changed.update(indices[differ].tolist())
