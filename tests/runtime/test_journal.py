"""What was found before a crash is found again, and nothing else."""

import json
from pathlib import Path

import pytest

from runtime.journal import Journal

WHAT = {"model": "a", "pictures": [1, 2]}
RECORDS = [{"probabilities": "AAAA", "errors": [None, ["cannot be read", "empty"]]}, [], "x" * 1000, None]


def written(path: Path) -> Path:
    with Journal(path, WHAT) as journal:
        for record in RECORDS:
            journal.append(record)
    return path


def read(path: Path, what: object = WHAT) -> list[object]:
    with Journal(path, what) as journal:  # type: ignore[arg-type]
        return journal.records


def test_records_come_back_in_their_order_and_more_can_follow(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal"
    assert read(path) == []
    assert read(written(path)) == RECORDS
    with Journal(path, WHAT) as journal:
        journal.append("more")
    assert read(path) == [*RECORDS, "more"]


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", WHAT) as journal:
        journal.append("first")
        assert json.loads((tmp_path / "journal").read_bytes().splitlines()[-1][64:]) == "first"


def test_the_journal_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    assert read(path, {"model": "b", "pictures": [1, 2]}) == []
    assert read(path) == []


def test_a_file_that_is_no_journal_is_begun_anew(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"ImageID,ans\na,1\n", bytes(range(256)) * 10):
        (tmp_path / "journal").write_bytes(content)
        assert read(tmp_path / "journal") == []


def test_cut_anywhere_it_holds_the_records_that_are_whole(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal").read_bytes()
    ends = [len(b"".join(whole.splitlines(keepends=True)[: count + 2])) for count in range(len(RECORDS))]
    for length in range(len(whole) + 1):
        (tmp_path / "journal").write_bytes(whole[:length])
        expected = RECORDS[: sum(end <= length for end in ends)]
        assert read(tmp_path / "journal") == expected
        with Journal(tmp_path / "journal", WHAT) as journal:
            journal.append("more")
        assert read(tmp_path / "journal") == [*expected, "more"]


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_ends_what_holds(tmp_path: Path, bit: int) -> None:
    whole = written(tmp_path / "journal").read_bytes()
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        (tmp_path / "journal").write_bytes(data)
        found = read(tmp_path / "journal")
        assert found == RECORDS[: len(found)]
        assert len(found) < len(RECORDS)


def test_when_it_is_done_it_is_gone(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", WHAT) as journal:
        journal.append(1)
        journal.remove()
    assert list(tmp_path.iterdir()) == []
