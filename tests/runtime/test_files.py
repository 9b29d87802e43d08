"""Files are written completely or not at all."""

import errno
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from runtime.errors import DataError
from runtime.files import check_writable, existing_folder, replacing


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
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file")
