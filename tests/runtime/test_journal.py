"""The records from before a crash come back, and nothing else does."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from runtime.journal import Journal

FINGERPRINT = {"model": "a", "images": [1, 2]}
RECORDS: list[Any] = [{"probabilities": "AAAA", "errors": [None, ["cannot be read", "empty"]]}, [], "x" * 1000, None]


def written(path: Path) -> Path:
    with Journal(path, FINGERPRINT) as journal:
        for record in RECORDS:
            journal.append(record)
    return path


def read(path: Path, what: object = FINGERPRINT) -> list[object]:
    with Journal(path, what) as journal:  # type: ignore[arg-type]
        return journal.records


def test_records_come_back_in_their_order_and_more_can_follow(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal"
    assert read(path) == []
    assert read(written(path)) == RECORDS
    with Journal(path, FINGERPRINT) as journal:
        journal.append("more")
    assert read(path) == [*RECORDS, "more"]


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", FINGERPRINT) as journal:
        journal.append("first")
        assert json.loads((tmp_path / "journal").read_bytes().splitlines()[-1][64:]) == "first"


def test_a_journal_with_a_different_fingerprint_starts_from_scratch(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    assert read(path, {"model": "b", "images": [1, 2]}) == []
    assert read(path) == []


def test_a_file_that_is_no_journal_starts_from_scratch(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"ImageID,ans\na,1\n", bytes(range(256)) * 10):
        (tmp_path / "journal").write_bytes(content)
        assert read(tmp_path / "journal") == []


def test_a_journal_cut_anywhere_keeps_its_complete_records(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal").read_bytes()
    ends = [len(b"".join(whole.splitlines(keepends=True)[: count + 2])) for count in range(len(RECORDS))]
    for length in range(len(whole) + 1):
        (tmp_path / "journal").write_bytes(whole[:length])
        expected = RECORDS[: sum(end <= length for end in ends)]
        assert read(tmp_path / "journal") == expected
        with Journal(tmp_path / "journal", FINGERPRINT) as journal:
            journal.append("more")
        assert read(tmp_path / "journal") == [*expected, "more"]


@pytest.mark.parametrize("bit", range(8))
def test_records_after_a_flipped_bit_are_dropped(tmp_path: Path, bit: int) -> None:
    whole = written(tmp_path / "journal").read_bytes()
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        (tmp_path / "journal").write_bytes(data)
        found = read(tmp_path / "journal")
        assert found == RECORDS[: len(found)]
        assert len(found) < len(RECORDS)


def test_a_removed_journal_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", FINGERPRINT) as journal:
        journal.append(1)
        journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", range(len(RECORDS) + 1))
def test_records_that_no_longer_count_are_cut_off(tmp_path: Path, count: int) -> None:
    path = written(tmp_path / "journal")
    with Journal(path, FINGERPRINT) as journal:
        journal.keep(count)
        assert journal.records == RECORDS[:count]
        journal.append("more")
    assert read(path) == [*RECORDS[:count], "more"]


def test_a_full_disk_is_an_error_that_names_the_journal(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught, Journal(tmp_path / "journal", {}) as journal:
            journal.append("x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "journal")
