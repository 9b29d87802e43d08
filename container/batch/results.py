"""The objects of a transform job, and the NAME.out of each, which are joined to info.csv."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from data.tables import INFO_CSV, Table
from runtime.errors import DataError
from runtime.files import replacing

STAMP = ".transform.json"


def find_objects(prefix: Path) -> list[str]:
    """Every file below a folder as S3 would list it, by name; but for the table that the answers are joined to."""
    names = [path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != INFO_CSV)


@dataclass(frozen=True)
class Answers:
    """A folder of NAME.out, in the sub-folders of the objects; what one job has written, the next goes on from."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.out"

    def begin(self, prefix: Path, names: list[str], model: str) -> list[str]:
        """The objects that have no answer of this model yet; those of another model, or of who knows which, go."""
        if not model or _read_json(self.folder / STAMP) != {"model": model}:
            for name in names:
                self.path(name).unlink(missing_ok=True)
            with replacing(self.folder / STAMP) as file:
                file.write(json.dumps({"model": model}) + "\n")
        return [name for name in names if not self._is_answered(prefix / name, name)]

    def _is_answered(self, source: Path, name: str) -> bool:
        """Whether there is an answer to the object as it is now; an image without a class is asked for again."""
        path = self.path(name)
        if not path.exists() or path.stat().st_mtime_ns != source.stat().st_mtime_ns:
            return False
        return (self.read(name) or {}).get("prediction") is not None

    def write(self, source: Path, name: str, answer: bytes) -> None:
        """Whole or not at all, but not forced to the disk, which would take longer than the answers do.

        The file takes over the time of its object, so that a later run can tell whether they belong together.
        """
        path, times = self.path(name), source.stat()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(answer)
        os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
        temporary.replace(path)

    def read(self, name: str) -> dict[str, object] | None:
        """The answer to an object; None if there is no whole one."""
        record = _read_json(self.path(name))
        return record if isinstance(record, dict) and "prediction" in record else None

    def join(self, table: Table) -> tuple[Table, dict[str, str]]:
        """The table with a column `ans`, and why an image has none; raises DataError if no image has one."""
        records = {name: self.read(name) or {} for name in table.names}
        reasons = {name: _reason(record) for name, record in records.items() if record.get("prediction") is None}
        if len(reasons) == len(records):
            name, reason = next(iter(reasons.items()))
            raise DataError(f"none of the {len(table.rows)} images can be used: {reason}: {name}")
        return table.with_columns({"ans": (records[name].get("prediction") for name in table.names)}), reasons


def _reason(record: dict[str, object]) -> str:
    error = record.get("error")
    if isinstance(error, dict) and "message" in error:
        return str(error["message"]).removesuffix(": the image")
    return "there is no such image"


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
