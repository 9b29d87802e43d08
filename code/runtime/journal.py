"""A journal of a long computation: records in a file, so that the next process resumes after the last one.

    with Journal(folder / "output.csv.journal", {"model": "...", "images": "..."}) as journal:
        for record in journal.records: ...    # of an earlier process with the same fingerprint
        journal.append(record)
        journal.remove()                      # after the result is published

A line is the sha256 of a record and the record as JSON; the first line holds the fingerprint. A line that a crash left
incomplete does not match its sha256 and is cut off, so nothing is synced, and a record costs no more than a write.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.files import ANY_SIZE, make_folder, naming, open_regular

MAX_LINE_BYTES = 256 << 20  # a batch of 256 images has 140 MB with 100,000 classes


class Journal:
    """The records of one computation, by one process at a time."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Read the intact records; a journal with a different `fingerprint` (JSON) is started from scratch.

        Raises UnusableFile if a pipe or device is in its place.
        """
        self.path = path
        make_folder(path.parent)
        first, lines = _line(fingerprint), list(_whole_lines(path))
        self.records: list[Any] = []
        if lines[:1] == [first]:
            self.records = [json.loads(line[64:]) for line in lines[1:]]
            self._file = path.open("ab")
        else:
            lines = [first]
            self._file = path.open("wb")
            self._file.write(first)
        self._ends = list(accumulate(map(len, lines)))  # in bytes, of the first line and of each record
        self.keep(len(self.records))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with naming(self.path):
            self._file.close()

    def keep(self, count: int) -> None:
        """Cut off all but the first `count` of the records that were read; call this before `append`."""
        with naming(self.path):
            self._file.flush()
            self._file.truncate(self._ends[count])
        del self.records[count:]

    def append(self, record: Any) -> None:
        """Append a record, which must be JSON."""
        with naming(self.path):
            self._file.write(_line(record))
            self._file.flush()

    def remove(self) -> None:
        """Remove the journal: its result is published or rejected."""
        self.path.unlink()


def _line(record: Any) -> bytes:
    """Return the line of a record: sha256, space, JSON."""
    text = json.dumps(record).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines before the first damaged one."""
    if not path.exists():
        return
    with open_regular(path, ANY_SIZE) as file:
        while line := file.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n") or line[:64] != hashlib.sha256(line[65:-1]).hexdigest().encode():
                return
            yield line
