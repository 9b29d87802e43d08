"""Links are followed and end, and nothing but hidden names is missing without a word."""

import os
from pathlib import Path

import pytest

from data.listing import (
    BROKEN_LINKS,
    LITTER,
    LOOPS,
    SPECIAL_FILES,
    describe_names,
    is_litter,
    list_folder,
    printable,
    walk_files,
)


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_files_are_sorted_by_folder_and_name_and_hidden_ones_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, "b/2", "b/1", "a", "b-1/3", "c", ".hidden", ".trash/d", "b/.DS_Store")
    listing = list_folder(tmp_path)
    assert listing.files == list(walk_files(tmp_path)) == ["a", "b/1", "b/2", "b-1/3", "c"]
    assert listing.folders == ["b", "b-1"]
    assert listing.ignored == {}


def test_links_to_files_and_folders_are_followed_as_often_as_they_are_there(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "a.jpg", "deep/b.jpg")
    write(tmp_path / "data", "c.jpg")
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "d.jpg").symlink_to(tmp_path / "data" / "c.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    expected = ["c.jpg", "d.jpg", "one/a.jpg", "one/deep/b.jpg", "two/a.jpg", "two/deep/b.jpg"]
    assert list_folder(tmp_path / "link").files == list_folder(tmp_path / "data").files == expected
    assert list_folder(tmp_path / "data").subfolders("two") == ["two/deep"]


def test_a_link_back_ends_and_a_broken_one_is_named(tmp_path: Path) -> None:
    write(tmp_path, "sub/a.jpg")
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    listing = list_folder(tmp_path)
    assert listing.files == ["sub/a.jpg"]
    assert listing.ignored == {
        LOOPS: ["sub/back"],
        BROKEN_LINKS: ["gone.jpg", "itself"],
        SPECIAL_FILES: ["pipe.jpg"],
    }
    assert list(walk_files(tmp_path)) == ["gone.jpg", "itself", "sub/a.jpg"]


def test_two_folders_that_contain_links_to_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/to").symlink_to(tmp_path / "b")
    (tmp_path / "b/to").symlink_to(tmp_path / "a")
    listing = list_folder(tmp_path)
    assert listing.files == ["a/1.jpg", "a/to/2.jpg", "b/2.jpg", "b/to/1.jpg"]
    assert listing.ignored == {LOOPS: ["a/to/to", "b/to/to"]}


def test_litter_is_named_and_not_entered(tmp_path: Path) -> None:
    write(tmp_path, "#recycle/a.jpg", "cat/@eaDir/b.jpg", "cat/Thumbs.db", "cat/c.jpg")
    (tmp_path / "lost+found").mkdir()
    listing = list_folder(tmp_path)
    assert listing.files == ["cat/c.jpg"]
    assert listing.folders == ["cat"]
    assert listing.ignored == {LITTER: ["#recycle", "cat/@eaDir", "cat/Thumbs.db", "lost+found"]}


LITTER_NAMES = (
    *("#recycle", "#snapshot", "@eaDir", "@Recycle", "a.jpg@SynoEAStream", "lost+found", "__pycache__"),
    *("$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "FOUND.000", "Thumbs.db", "ehthumbs.db"),
    *("desktop.ini", "Desktop.ini", "__MACOSX", "Icon\r", "~$report.docx"),
)
CLASS_NAMES = ("cat", "recycle", "recycled", "lost", "found", "macosx", "trash", "@home", "#1", "$5", "~a")


@pytest.mark.parametrize("name", LITTER_NAMES)
def test_what_file_systems_and_tools_leave_behind_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_name_that_may_be_a_class_is_not_litter(name: str) -> None:
    assert not is_litter(name)


def test_names_in_a_message_are_few_and_in_one_line() -> None:
    assert describe_names(["a", "b"]) == "2 (a, b)"
    assert describe_names(["a\nb", "caf\udce9"]) == "2 (a\\nb, caf\\udce9)"
    assert describe_names(list("abcdefghij")) == "10 (a, b, c, d, e, f, g, h, ...)"
    assert describe_names([*(f"{folder}/@eaDir" for folder in "abcdefgh"), "z"]).startswith("9 (a/@eaDir, z, b/@eaDir")
    assert printable("café 中") == "café 中"
