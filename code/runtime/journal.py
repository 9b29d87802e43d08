"""What a long computation has found so far: records in a file, one by one, for the process that takes its place.

    with Journal(folder / "output.csv.journal", {"model": "...", "pictures": "..."}) as journal:
        for record in journal.records: ...    # what a process before has found, if it computed the very same
        journal.append(record)
        journal.remove()                      # when the result is published

A line is the sha256 of a record and the record as JSON; the first one says what is computed. What a crash has left
half-written does not match and is cut off, so nothing needs to be synced, and a record costs no more than a write.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.files import make_folder


class Journal:
    """The records of one computation, by one process at a time."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Read what holds; the journal of anything with another `fingerprint` (JSON) is begun anew."""
        self.path = path
        make_folder(path.parent)
        first, lines = _line(fingerprint), list(_whole_lines(path))
        self.records: list[Any] = []
        if lines[:1] == [first]:
            self.records = [json.loads(line[64:]) for line in lines[1:]]
            self._file = path.open("ab")
            self._file.truncate(sum(map(len, lines)))
        else:
            self._file = path.open("wb")
            self._file.write(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def append(self, record: Any) -> None:
        """Add a record, which must be JSON."""
        self._file.write(_line(record))
        self._file.flush()

    def remove(self) -> None:
        """What was computed is published, or refused."""
        self.path.unlink()


def _line(record: Any) -> bytes:
    text = json.dumps(record).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines up to the first that is damaged."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n") or line[:64] != hashlib.sha256(line[65:-1]).hexdigest().encode():
            return
        yield line
