"""Digests of image files, which tell whether an image is the one that was there before. No torch. The rules:

1. Identity is content: a file is the same image if the sha256 of all its bytes is the same. Names, sizes and times do
   not tell: uncompressed images of one shape have one size, and tools that copy keep the times.
2. A digest is compared whole, never a part of it.
3. The digest of an image that is decoded or posted is that of the bytes that were decoded or posted; the file is not
   read twice, so it cannot change in between.
4. A file that cannot be read has no digest, which is written as no bytes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.process import cpu_count

DIGEST_BYTES = 32


def content_digest(data: bytes) -> bytes:
    """Return the sha256 of the bytes of a file."""
    return hashlib.sha256(data).digest()


def file_digest(path: Path) -> bytes:
    """Return the sha256 of a file; no bytes if it cannot be read."""
    try:
        with path.open("rb") as file:
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
