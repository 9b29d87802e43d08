"""Files are written completely or not at all, and only regular files are read."""

import errno
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from runtime.errors import DataError
from runtime.failure import explain_os_error
from runtime.files import UnusableFile, check_writable, existing_folder, read_regular, replacing
from support.strange_files import KINDS, make_strange


def test_a_missing_folder_a_file_and_an_empty_folder_are_three_sentences(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    found = existing_folder(tmp_path, "SM_CHANNEL_TRAIN", "images")
    assert found == tmp_path
    for name, sentence in {
        "absent": "SM_CHANNEL_TRAIN does not exist, expected images",
        "file": "SM_CHANNEL_TRAIN is a file, expected a folder with images",
        "empty": "SM_CHANNEL_TRAIN is empty, expected images",
    }.items():
        with pytest.raises(DataError, match=f"^{sentence}: {tmp_path / name}$"):
            existing_folder(tmp_path / name, "SM_CHANNEL_TRAIN", "images")


def test_a_disk_that_fails_is_reported_with_the_name_of_the_file() -> None:
    memory = Path("/proc/self/mem")  # a regular file, of which nothing can be read at 0
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_regular(memory, 10)
    assert str(explain_os_error(caught.value)).endswith(f": {memory}")


@pytest.mark.parametrize(("mode", "content"), [("w", "a\r\nb\n\N{SNOWMAN}"), ("wb", b"\x00\r\n")])
def test_a_file_is_replaced_completely_and_readable_by_all(tmp_path: Path, mode: str, content: str | bytes) -> None:
    path = tmp_path / "new" / "model.json"
    for _ in range(2):
        with replacing(path, mode) as file:
            file.write(content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["model.json"]


@pytest.mark.parametrize("error", [ValueError("bug"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def write(file: IO[str]) -> None:
        file.write("half of the ne")
        raise error

    with pytest.raises(type(error)), replacing(path) as file:
        write(file)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize("name", ["x" * 255, "x" * 242, "\u00e9" * 127, "x" * 241])
def test_a_file_with_the_longest_name_is_replaced_and_its_temporary_files_are_removed(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    with replacing(path) as file:
        (temporary,) = tmp_path.iterdir()
        file.write("old")
    temporary.write_text("what a killed process leaves")
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught, replacing(path) as file:
        file.write("new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]


def test_a_folder_that_is_not_writable_is_noticed_before_anything_is_created(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "newer")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        check_writable(tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file"), "no temporary file"


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_within_the_limit_are_read(tmp_path: Path, kind: str) -> None:
    path = make_strange(tmp_path / "a.jpg", kind)
    with pytest.raises(UnusableFile, match=r"regular file|bytes are more than") as caught:
        read_regular(path, 1_000_000)
    assert caught.value.is_too_large == (kind == "sparse")
    assert explain_os_error(caught.value) == f"{caught.value.strerror}: {path}"


def test_a_name_that_no_file_can_have_is_no_file() -> None:
    for name in ("a\0b", "\ud800"):
        with pytest.raises(UnusableFile, match="not the name of a file"):
            read_regular(Path(name), 10)


def test_a_regular_file_a_link_to_one_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(UnusableFile, match="10 bytes are more than the 9 allowed"):
        read_regular(tmp_path / "link", 9)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing", 10)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 10)
    (tmp_path / "closed").symlink_to("/proc/self/mem")  # a regular file of size 0 that cannot be read at 0
    with pytest.raises(OSError, match=r"."):
        read_regular(tmp_path / "closed", 10)


def test_a_file_that_has_more_bytes_than_it_says_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="more than the 100 allowed"):
        read_regular(Path("/proc/cpuinfo"), 100)  # its size is 0
