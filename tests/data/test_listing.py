"""listing.py: links are followed and end, and nothing but hidden files is missing."""

import os
from pathlib import Path

from data.listing import walk_files


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_files_are_sorted_by_folder_and_name_and_hidden_ones_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, "b/2", "b/1", "a", "b-1/3", "c", ".hidden", ".trash/d", "b/.DS_Store")
    assert list(walk_files(tmp_path)) == ["a", "b/1", "b/2", "b-1/3", "c"]


def test_links_to_files_and_folders_are_followed_as_often_as_they_are_there(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "a.jpg", "deep/b.jpg")
    write(tmp_path / "data", "c.jpg")
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "d.jpg").symlink_to(tmp_path / "data" / "c.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    expected = ["c.jpg", "d.jpg", "one/a.jpg", "one/deep/b.jpg", "two/a.jpg", "two/deep/b.jpg"]
    assert list(walk_files(tmp_path / "link")) == list(walk_files(tmp_path / "data")) == expected


def test_a_link_back_ends_and_a_dangling_one_is_listed(tmp_path: Path) -> None:
    write(tmp_path, "sub/a.jpg")
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list(walk_files(tmp_path)) == ["gone.jpg", "itself", "sub/a.jpg"]
