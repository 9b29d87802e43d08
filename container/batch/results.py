"""The results of a batch transform: one NAME.out for each object, joined to the rows of info.csv.

A transform on this machine writes them (OutputFolder), one on SageMaker leaves them in S3 (read_downloaded). Both end
in the output.csv that code/inference.py would have written.

A transform on this machine is resumed by these rules:

1. NAME.out is the body of a response, as SageMaker would leave it. A journal beside it records the digest of the model,
   and for each response the digest of the object that was posted and of the body.
2. A response counts only if it has a prediction and all three digests are those of now (data/digests.py). Any other is
   removed and requested again: nobody finds a prediction made from other bytes.
3. A response is recorded before it is renamed to NAME.out, so a killed transform loses at most those in flight.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.digests import content_digest, file_digest, file_digests
from data.images import is_image_file
from data.tables import INFO_CSV, Table, read_table
from runtime.errors import DataError
from runtime.journal import Journal

SUFFIX = ".out"  # SageMaker appends it to the name of an object
JOURNAL = ".transform.journal"
_OLD_STAMP = ".transform.json"  # of version 0.1.0, which compared modification times

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
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    @contextlib.contextmanager
    def resume(self, prefix: Path, names: Sequence[str], model: str) -> Iterator[tuple[Journal, list[str]]]:
        """Yield the journal, for `write`, and the objects that still need a response of this model.

        `model` is its digest, empty if it is not known: then all objects need a response. Other responses to them are
        removed (rule 2).
        """
        (self.folder / _OLD_STAMP).unlink(missing_ok=True)
        if not model:
            (self.folder / JOURNAL).unlink(missing_ok=True)
        with Journal(self.folder / JOURNAL, {"model": model}) as journal:
            done = self._done(prefix, {name: tuple(digests) for name, *digests in journal.records})
            pending = [name for name in names if name not in done]
            for name in pending:
                self.path(name).unlink(missing_ok=True)
            yield journal, pending

    def _done(self, prefix: Path, recorded: Mapping[str, tuple[str, ...]]) -> set[str]:
        """Return the objects whose response counts, of those with a recorded digest of the object and of the body."""
        names = [name for name, (_, body) in recorded.items() if body == file_digest(self.path(name)).hex()]
        objects = file_digests([prefix / name for name in names])
        unchanged = [name for name, digest in zip(names, objects, strict=True) if digest.hex() == recorded[name][0]]
        return {name for name in unchanged if self.read(name).get("prediction") is not None}

    def write(self, journal: Journal, name: str, posted: bytes, body: bytes) -> None:
        """Write the response to the bytes of an object, whole or not at all, and record it; threads may do so at once.

        Without fsync, which would take longer than the model: the digest tells whether the response is whole.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(body)
        with self._lock:
            journal.append([name, content_digest(posted).hex(), content_digest(body).hex()])
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
