"""The results of a batch transform: one NAME.out for each object, joined to the rows of info.csv.

A transform on this machine writes them (OutputFolder), one on SageMaker leaves them in S3 (read_downloaded). Both end
in the output.csv that code/inference.py would have written.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.images import is_image_file
from data.tables import INFO_CSV, Table, read_table
from runtime.errors import DataError
from runtime.files import replacing

SUFFIX = ".out"  # SageMaker appends it to the name of an object
STAMP = ".transform.json"  # which model the files beside it came from

Response = dict[str, Any]  # `prediction`, and an `error` where that is null


def read_response(path: Path) -> Response:
    """Return the response that a NAME.out holds; raise DataError if it is not one of this image's server."""
    try:
        response = json.loads(path.read_bytes())
        if not isinstance(response["prediction"], int | str | None):
            raise TypeError(response["prediction"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a response of this image, expected JSON with `prediction` ({error!r}): {path}") from None
    return dict(response)


def read_downloaded(paths: Iterable[Path], root: Path) -> dict[str, Response]:
    """Return the responses of a SageMaker transform by ImageID, from its NAME.out files below `root`.

    Objects that are not images, such as an info.csv, got a response too; it is ignored. Raises DataError as
    `read_response` does.
    """
    found = {path.relative_to(root).as_posix().removesuffix(SUFFIX): path for path in paths}
    found = {name: path for name, path in found.items() if is_image_file(name)}
    if found and all(name.startswith("images/") for name in found):
        found = {name.removeprefix("images/"): path for name, path in found.items()}
    return {name: read_response(path) for name, path in found.items()}


def join(table: Table, responses: Mapping[str, Response]) -> tuple[Table, dict[str, str]]:
    """Return the table with a column `ans`, and by ImageID the reason why an image has no prediction."""
    predictions = [responses.get(name, {}).get("prediction") for name in table.names]
    missing = [name for name, prediction in zip(table.names, predictions, strict=True) if prediction is None]
    return table.with_columns({"ans": predictions}), {name: _reason(responses.get(name, {})) for name in missing}


def join_downloaded(responses: Mapping[str, Response], info: Path | None) -> Table:
    """Return the output.csv of a SageMaker transform: the columns ImageID and `ans`.

    With an info.csv it has the rows, order and other columns of that file, without one a row for each response, sorted
    by name. An image without a prediction has an empty `ans`, as code/inference.py writes it, and is named on stderr.
    """
    table = read_table(info) if info else Table(("ImageID",), [{"ImageID": name} for name in sorted(responses)])
    table, reasons = join(table, responses)
    if reasons:
        names = ", ".join([*reasons][:3]) + (", ..." if len(reasons) > 3 else "")
        print(f"{len(reasons)} of {len(table.rows)} images have no prediction: {names}", file=sys.stderr)
    return table


def find_objects(prefix: Path) -> list[str]:
    """Return every file below a folder by name, as S3 would list them, except info.csv itself."""
    names = [path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != INFO_CSV)


@dataclass(frozen=True)
class OutputFolder:
    """A folder with the NAME.out of each object, in sub-folders like those of the objects; a later run resumes it."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def resume(self, prefix: Path, names: list[str], model: str) -> list[str]:
        """Return the objects that still need a response of this model (a digest, empty if it is not known).

        Responses of another or an unknown model are removed.
        """
        if not model or _read_stamp(self.folder / STAMP) != {"model": model}:
            for name in names:
                self.path(name).unlink(missing_ok=True)
            with replacing(self.folder / STAMP) as file:
                file.write(json.dumps({"model": model}) + "\n")
        return [name for name in names if not self._is_done(prefix / name, name)]

    def _is_done(self, source: Path, name: str) -> bool:
        """Return whether an object has a prediction made from the file as it is now; errors are tried again."""
        path = self.path(name)
        if not path.exists() or path.stat().st_mtime_ns != source.stat().st_mtime_ns:
            return False
        return self.read(name).get("prediction") is not None

    def write(self, source: Path, name: str, body: bytes) -> None:
        """Write the response to an object, whole or not at all; without fsync, which would take longer than the model.

        The file gets the modification time of its object, so that a later run can tell whether they belong together.
        """
        path, times = self.path(name), source.stat()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(body)
        os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
        temporary.replace(path)

    def read(self, name: str) -> Response:
        """Return the response to an object, or an empty one if there is none or it is damaged."""
        try:
            return read_response(self.path(name))
        except (OSError, DataError):
            return {}


def _reason(response: Response) -> str:
    error = response.get("error")
    if isinstance(error, dict) and "message" in error:
        return str(error["message"]).removesuffix(": the image")
    return "there is no such image"


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
