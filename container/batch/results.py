"""The results of a batch transform: one NAME.out for each object, joined to the rows of info.csv.

A transform on this machine writes them (OutputFolder), one on SageMaker leaves them in S3 (read_downloaded). Both end
in the output.csv that code/inference.py would have written.

A transform on this machine is resumed by these rules:

1. NAME.out is the body of a response, as SageMaker would leave it. A journal beside it records the digest of the model,
   and for each response the digest of the object that was posted and of the body.
2. A response counts only if it has a prediction and all three digests are those of now (data/digests.py). Any other is
   removed, and requested again if its object is there: nobody finds a prediction made from other bytes.
3. A response is recorded before it is renamed to NAME.out, so a killed transform loses at most those in flight.
"""

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from data.digests import content_digest, file_digest, file_digests
from data.images import is_image_file
from data.names import canonical_name, check_names, first_names
from data.tables import INFO_CSV, OK, SCHEME_JSON, STATUS, UNSURE, Table, read_table
from labels import MASKED_FACES, join_labels
from runtime.errors import DataError
from runtime.files import NAME_BYTES
from runtime.journal import Journal
from runtime.json_files import read_json

SUFFIX = ".out"  # SageMaker appends it to the name of an object
IMAGES = "images/"  # beside info.csv: then ImageIDs are relative to it
JOURNAL = ".transform.journal"
MAX_RESPONSE_BYTES = 64 << 20  # of one image
_OLD_STAMP = ".transform.json"  # of version 0.1.0, which compared modification times
_MOST_BYTES = NAME_BYTES - len(SUFFIX) - len("..tmp")  # in a name, so that NAME.out and a temporary file can be made

Response = dict[str, Any]  # `prediction`, and an `error` where that is null


def read_response(path: Path) -> Response:
    """Return the response that a NAME.out holds; raise DataError if it is not one of this image's server."""
    try:
        response = read_json(path, most_bytes=MAX_RESPONSE_BYTES)
        prediction = response["prediction"]
        is_several = isinstance(prediction, list) and isinstance(response["labels"], list)
        if not is_several and not isinstance(prediction, int | str | None):
            raise TypeError(prediction)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a response of this image, expected JSON with `prediction` ({error!r}): {path}") from None
    return dict(response)


def read_downloaded(outputs: Mapping[str, Path], info: Path | None) -> tuple[Table, dict[str, Response]]:
    """Return the rows of a SageMaker transform and its responses by ImageID, from NAME.out files by object name.

    ImageIDs are relative to the same folder as in the commands on this machine (data.tables.find_root): images/, if
    there is one beside an info.csv. With `info` the rows are those of that file; without, a row for each image by its
    name. Other responses are ignored with a warning. Raises DataError as `read_response` does, and if `info` names none
    of the objects.
    """
    objects = {name.removesuffix(SUFFIX): path for name, path in outputs.items()}
    has_info = info is not None or INFO_CSV in objects
    below = {name.removeprefix(IMAGES): path for name, path in objects.items() if name.startswith(IMAGES)}
    images = below if has_info and below else objects
    check_names(images, next(iter(outputs.values())).parent)
    known = {canonical_name(name): path for name, path in images.items() if name != INFO_CSV}
    table = read_table(info) if info else _tabulate(images)
    responses = {
        name: read_response(known[canonical_name(name)]) for name in table.names if canonical_name(name) in known
    }
    if info and not responses:
        raise DataError(
            f"{info.name} names none of the {len(known)} objects of this job, it starts with {table.names[0]!r} and "
            f"the job has {first_names(sorted(known), 1)!r}; pass the {INFO_CSV} of the images of this job: {info}"
        )
    used = {known[canonical_name(name)] for name in responses}
    _warn_of_ignored([name for name, path in objects.items() if path not in used and name != INFO_CSV], info)
    return table, responses


def _tabulate(images: Iterable[str]) -> Table:
    """Return a row for each image by its name, sorted."""
    return Table(("ImageID",), [{"ImageID": name} for name in sorted(images) if is_image_file(name)])


def _warn_of_ignored(names: list[str], info: Path | None) -> None:
    if names:
        reason = f"not in {INFO_CSV}" if info else f"not images by their ending; to use them, pass {INFO_CSV}"
        print(f"warning: {len(names)} responses ignored ({first_names(sorted(names))}), {reason}", file=sys.stderr)


def join(
    table: Table, responses: Mapping[str, Response], answers: str = "index", status: bool = False
) -> tuple[Table, dict[str, str]]:
    """Return the table with a column of predictions, and by ImageID the reason why an image has none.

    `responses` are by ImageID, `answers` is `index` or `name`, as in --answers; with `status` there is a column of the
    status, too, as with --status. Raises DataError if no image has a prediction, and if a response has no name.
    """
    predictions = [_prediction(name, responses.get(name, {}), answers) for name in table.names]
    missing = [name for name, prediction in zip(table.names, predictions, strict=True) if prediction is None]
    reasons = {name: _reason(responses.get(name, {})) for name in missing}
    if len(missing) == len(table.rows):
        found = f"{reasons[missing[0]]}: {missing[0]}" if missing else "there are no responses to images"
        raise DataError(f"none of the {len(table.rows)} images can be used: {found}")
    columns = {table.answer: predictions}
    if status:
        columns[STATUS] = [_status(responses.get(name, {})) for name in table.names]
    return table.with_columns(columns), reasons


def _status(response: Response) -> str:
    """Return the status of an image as code/inference.py writes it; without a response, the image is missing."""
    if response.get("prediction") is not None:
        return UNSURE if response.get("unsure") is True else OK
    error = response.get("error")
    return str(error["code"]) if isinstance(error, dict) and "code" in error else "missing"


def _prediction(name: str, response: Response, answers: str) -> object:
    """Return the class or classes of an image by number or by name, or None if it has no prediction."""
    number, label = response.get("prediction"), response.get("label")
    if isinstance(number, list):
        return join_labels(number if answers == "index" else response["labels"])
    if answers == "index" or number is None:
        return number
    if not isinstance(label, str):
        raise DataError(f"the response has no `label`, which --answers name needs; pass --answers index: {name}")
    return label


def announce_missing_scheme(reason: object) -> None:
    """Print that there is no scheme.json beside output.csv, and why."""
    print(f"{SCHEME_JSON} is missing, without it these classes cannot be evaluated: {reason}", file=sys.stderr)


def are_masked_faces(responses: Iterable[Response]) -> bool:
    """Return whether all predictions number classes of masked faces, which evaluation assumes without scheme.json."""
    return all(_is_masked_face(response) for response in responses)


def _is_masked_face(response: Response) -> bool:
    number = response.get("prediction")
    if number is None:
        return True
    if not isinstance(number, int) or not 0 <= number < MASKED_FACES.num_classes:
        return False
    return response.get("label") in (None, MASKED_FACES.classes[number])


def join_downloaded(
    table: Table, responses: Mapping[str, Response], answers: str = "index", status: bool = False
) -> Table:
    """Return the output.csv of a SageMaker transform: the table with the columns of `join`.

    An image without a prediction has an empty cell, as code/inference.py writes it, and is named on stderr. Raises
    DataError if no image has a prediction.
    """
    table, reasons = join(table, responses, answers, status)
    if reasons:
        names = first_names(list(reasons))
        print(f"{len(reasons)} of {len(table.rows)} images have no prediction: {names}", file=sys.stderr)
    return table


@dataclass(frozen=True)
class OutputFolder:
    """A folder with the NAME.out of each object, in sub-folders like those of the objects; a later run resumes it."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def path(self, name: str) -> Path:
        """Return the path of the response to an object; a digest stands for a name that is too long or leads out."""
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or any(len(os.fsencode(part)) > _MOST_BYTES for part in parts):
            name = hashlib.sha256(os.fsencode(name)).hexdigest()
        return self.folder / f"{name}{SUFFIX}"

    @contextlib.contextmanager
    def resume(
        self, prefix: Path, names: Sequence[str], model: str, missing: Collection[str] = ()
    ) -> Iterator[tuple[Journal, list[str]]]:
        """Yield the journal, for `write`, and the objects that still need a response of this model.

        `model` is its digest, empty if it is not known: then all objects need a response. Other responses to them, and
        to objects that are `missing` now, are removed (rule 2).
        """
        (self.folder / _OLD_STAMP).unlink(missing_ok=True)
        if not model:
            (self.folder / JOURNAL).unlink(missing_ok=True)
        with Journal(self.folder / JOURNAL, {"model": model}) as journal:
            done = self._done(prefix, {name: tuple(digests) for name, *digests in journal.records})
            pending = [name for name in names if name not in done]
            for name in pending:
                self.path(name).unlink(missing_ok=True)
            for name in missing:
                with contextlib.suppress(OSError):  # of a name that nothing can have
                    self.path(name).unlink()
            yield journal, pending

    def _done(self, prefix: Path, recorded: Mapping[str, tuple[str, ...]]) -> set[str]:
        """Return the objects whose response counts, of those with a recorded digest of the object and of the body."""
        names = [name for name, (_, body) in recorded.items() if body == file_digest(self.path(name)).hex()]
        objects = file_digests([prefix / name for name in names])
        unchanged = [name for name, digest in zip(names, objects, strict=True) if digest.hex() == recorded[name][0]]
        return {name for name in unchanged if self._has_prediction(name)}

    def _has_prediction(self, name: str) -> bool:
        try:
            return self.read(name).get("prediction") is not None
        except DataError:
            return False

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
        """Return the response to an object, or an empty one if there is none; raises DataError as `read_response`."""
        try:
            return read_response(self.path(name))
        except FileNotFoundError:
            return {}


def _reason(response: Response) -> str:
    error = response.get("error")
    if isinstance(error, dict) and "message" in error:
        return str(error["message"]).removesuffix(": the image")
    return "there is no such image"
