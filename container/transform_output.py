"""The objects of a transform job, the NAME.out of each, and the table that they are joined to."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from environment import replacing
from errors import DataError
from labels import MASKED_FACES, LabelScheme

STAMP = ".transform.json"


def find_objects(prefix: Path) -> list[str]:
    """Every file below a folder as S3 would list it, by name; but for the table that the answers are joined to."""
    names = [path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != "info.csv")


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
        """Whether there is a whole answer to the object as it is now."""
        path = self.path(name)
        return path.exists() and path.stat().st_mtime_ns == source.stat().st_mtime_ns and self.read(name) is not None

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

    def join(self, table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
        """The table with a column `ans`, and why a picture has none; raises DataError if no picture has one."""
        records = {name: self.read(name) for name in table["ImageID"]}
        predictions = [(records[name] or {}).get("prediction") for name in table["ImageID"]]
        reasons = {
            name: _reason(record) for name, record in records.items() if (record or {}).get("prediction") is None
        }
        if len(reasons) == len(records):
            name, reason = next(iter(reasons.items()))
            raise DataError(f"none of the {len(table)} pictures can be used: {reason}: {name}")
        return table.assign(ans=pd.Series(predictions, dtype="Int64")), reasons


def _reason(record: dict[str, object] | None) -> str:
    error = (record or {}).get("error")
    if isinstance(error, dict) and "message" in error:
        return str(error["message"]).removesuffix(": the picture")
    return "there is no such picture"


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_table(output_dir: Path, table: pd.DataFrame, scheme: LabelScheme | None) -> Path:
    """Write output.csv as code/inference.py does; and scheme.json, unless the classes are those of masked faces."""
    scheme_path = output_dir / "scheme.json"
    if scheme in (None, MASKED_FACES):
        scheme_path.unlink(missing_ok=True)
    else:
        with replacing(scheme_path) as file:
            file.write(json.dumps(scheme.to_dict(), indent=2) + "\n")
    with replacing(output_dir / "output.csv") as file:
        table.to_csv(file, index=False, lineterminator="\n")
    return output_dir / "output.csv"
