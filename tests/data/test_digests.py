"""A file is the same image if all its bytes are the same, whatever its name, size and time say."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from data.digests import DIGEST_BYTES, ImageDigests, as_array, content_digest, file_digest, file_digests
from runtime.errors import CheckpointError

PATHS = [Path(name) for name in "abcd"]
NONE = b""
FIRST, SECOND = content_digest(b"one"), content_digest(b"two")


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


# compared with those of a checkpoint


@pytest.mark.parametrize("expected_first", [True, False])
def test_an_image_that_has_changed_is_named_whenever_its_digest_becomes_known(expected_first: bool) -> None:
    digests = ImageDigests(PATHS)
    expected = as_array([FIRST, FIRST, NONE, FIRST])
    if expected_first:
        digests.expect(expected)
    for index, digest in ((0, FIRST), (1, NONE), (2, SECOND)):
        digests.record(np.array([index]), as_array([digest]))
    digests.check()
    digests.record(np.array([3]), as_array([SECOND]))
    if not expected_first:
        digests.check()
        digests.expect(expected)
    assert digests.any_changed
    with pytest.raises(CheckpointError, match=r"an image has changed since .*--resume force to resume anyway.*: d$"):
        digests.check()


def test_several_images_that_have_changed_are_counted() -> None:
    digests = ImageDigests(PATHS)
    digests.expect(as_array([FIRST] * 4))
    digests.record_all(as_array([FIRST, SECOND, SECOND, SECOND]))
    with pytest.raises(CheckpointError, match=r"3 images have changed since .*: b$"):
        digests.check()


def test_a_checkpoint_gets_the_digests_of_the_one_before_and_those_that_are_new() -> None:
    digests = ImageDigests(PATHS)
    digests.record(np.array([0]), as_array([FIRST]))
    assert np.array_equal(digests.to_save(), as_array([FIRST, NONE, NONE, NONE]))
    digests.expect(as_array([NONE, FIRST, FIRST, NONE]))
    digests.record(np.array([1]), as_array([SECOND]))
    digests.record(np.array([3]), as_array([SECOND]))
    assert np.array_equal(digests.known(), as_array([FIRST, SECOND, NONE, SECOND]))
    assert np.array_equal(digests.to_save(), as_array([FIRST, FIRST, FIRST, SECOND]))
