"""JSON from outside is read within limits of size and depth, and everything else is one phrase."""

import os
from pathlib import Path

import pytest

from runtime.files import UnusableFile
from runtime.json_files import MAX_DEPTH, parse_json, read_json, read_json_object


def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "a.json").write_text(mark + '{"a": [1, "\u00e9"]}', encoding="utf-8")
        assert read_json_object(tmp_path / "a.json") == {"a": [1, "\u00e9"]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65])
def test_deep_json_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested more than 64 deep|Expecting"):
        parse_json(text)


def test_json_of_the_largest_depth_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"1" * 5000, b"nul", b"{'a': 1}", b"\x00"])
def test_other_bytes_raise_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


def test_large_files_pipes_and_other_values_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + " " * 100 + "]")
    with pytest.raises(UnusableFile, match="102 bytes are more than the 100 allowed"):
        read_json(path, most_bytes=100)
    with pytest.raises(ValueError, match="it is a list, expected an object"):
        read_json_object(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableFile, match="regular file"):
        read_json(tmp_path / "pipe")
