"""A file is the same image if all its bytes are the same, whatever its name, size and time say."""

import hashlib
import os
from pathlib import Path

from data.digests import DIGEST_BYTES, content_digest, file_digest, file_digests


def test_the_digest_is_the_whole_sha256_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == content_digest(data) == hashlib.sha256(data).digest()
    assert len(content_digest(data)) == DIGEST_BYTES


def test_files_of_one_size_and_time_differ_by_their_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, data in zip(paths, (b"one", b"two", b"one"), strict=True):
        path.write_bytes(data)
        os.utime(path, (1, 1))
    first, second, third = file_digests(paths)
    assert first == third != second


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    assert list(file_digests([tmp_path / "none", tmp_path])) == [b"", b""]
