"""The responses of the server: predictions as JSON, JSON lines or csv, as the client accepts them; errors as JSON.

    {"prediction": 7, "label": "...", "mask": "...", "gender": "...", "age": "...", "probability": 0.93}
    {"error": {"code": "undecodable_image", "message": "..."}, "prediction": null}

`verbose` (`Accept: application/json;verbose`) adds `probabilities`, in the order of the classes, and `labels`. A row of
csv has prediction, label, the attributes, probability, error, and with `verbose` all probabilities.

Of a model with thresholds (`--min-precision` of train), a prediction also has `"unsure": true` or `false`, in csv after
the probability.

A model of several labels responds with lists, in csv joined by `|`; `verbose` adds all_probabilities and all_labels:

    {"prediction": [0, 2], "labels": ["cat", "sea"], "probabilities": [0.93, 0.81]}
"""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from calibration import UnsureThresholds
from labelling.labelling import DIGITS, Labelling
from labels import join_labels

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
_KINDS = (JSON, CSV, JSON_LINES)  # of equal weight and place, the first one
_RANGES = {  # of an Accept header: how specific they are, and what they include
    **dict.fromkeys(("*", "*/*"), (1, _KINDS)),
    **{"application/*": (2, (JSON, JSON_LINES)), "text/*": (2, (CSV,))},
    **{kind: (3, (kind,)) for kind in _KINDS},
}
RETRY_SECONDS = 1
MAX_ACCEPT = 1024  # characters; browsers send about 150


class RequestError(Exception):
    """A request that gets no prediction: an HTTP status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        headers = {"retry-after": str(RETRY_SECONDS)} if self.status == 503 else {}
        if self.code == "stopping":
            headers["connection"] = "close"
        if self.code == "unsupported_encoding":
            headers["accept-encoding"] = "gzip"
        return Response(error_body(self.code, str(self)), self.status, headers, JSON)


def error_body(code: str, message: str) -> bytes:
    """Return the JSON body of an error."""
    return json.dumps(_error(code, message)).encode()


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}, "prediction": None}


@dataclass(frozen=True)
class Format:
    """The format of a prediction that a client accepts."""

    media_type: str = JSON
    verbose: bool = False


def choose_format(accept: str | None) -> Format:
    """Return the format that an Accept header prefers: of equal weight, the one that it names first.

    For each format the most specific range counts: `application/json;q=0, */*` is anything but JSON. Raises
    RequestError 406 if it accepts none of ours, 431 if it is longer than MAX_ACCEPT.
    """
    if accept is not None and len(accept) > MAX_ACCEPT:
        raise RequestError(431, "headers_too_large", f"Accept is longer than the {MAX_ACCEPT} characters allowed")
    best: dict[str, tuple[int, float, int, bool]] = {}  # by format: rank, weight, place and verbosity of a range
    for index, part in enumerate((accept or "*/*").split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        rank, kinds = _RANGES.get(name, (0, ()))
        verbose = bool({"verbose", "verbose=true", "verbose=1"} & set(parameters))
        found = rank, _quality(parameters), -index, verbose
        best |= {kind: max(found, best.get(kind, found)) for kind in kinds}
    if not any(quality for _, quality, _, _ in best.values()):
        raise RequestError(
            406, "not_acceptable", f"Accept is {quoted(accept)}, expected {JSON}, {JSON_LINES} or {CSV} among its types"
        )
    kind = max((kind for kind in _KINDS if kind in best), key=lambda kind: best[kind][1:3])
    return Format(kind, verbose=best[kind][3])


def _quality(parameters: list[str]) -> float:
    """Return the weight `q` of a media range, from 0 (not wanted, also if it is not a number) to 1."""
    given = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        weight = float(given)
    except ValueError:
        return 0.0
    return min(weight, 1.0) if weight > 0 else 0.0


def quoted(text: str | None, most: int = 80) -> str:
    """Return a client's text for a message: in quotes, in ASCII, cut after `most` characters."""
    text = text or ""
    return ascii(text if len(text) <= most else text[:most] + "...")


class Writer:
    """Write predictions and image errors."""

    def __init__(self, labelling: Labelling, thresholds: UnsureThresholds | None = None) -> None:
        """`thresholds` are those of one label, below which a prediction is unsure."""
        self.labelling, self.thresholds = labelling, thresholds
        self._missing = np.full(labelling.scheme.num_classes, np.nan, np.float32)
        self._columns = len(labelling.response(self._missing)) + (thresholds is not None)  # of csv, before the error

    def prediction(self, probabilities: NDArray[np.float32], wanted: Format) -> Response:
        """Return the response for one image, from its probabilities (classes,)."""
        record = self.labelling.response(probabilities)
        if self.thresholds:
            record["unsure"] = bool(self.thresholds.is_unsure(probabilities[None])[0])
        if wanted.media_type == CSV:
            return self._row([*map(_cell, record.values()), ""], probabilities if wanted.verbose else None)
        if wanted.verbose:
            record |= self.labelling.details(probabilities)
        return _text(record, wanted)

    def error(self, code: str, message: str, wanted: Format) -> Response:
        """Return the response for an image without a prediction, with status 200, so that the job does not fail."""
        if wanted.media_type != CSV:
            return _text(_error(code, message), wanted)
        blanks = [""] * self._columns
        return self._row([*blanks, ascii(f"{code}: {message}")[1:-1]], self._missing if wanted.verbose else None)

    def _row(self, cells: list[Any], probabilities: NDArray[np.float32] | None) -> Response:
        if probabilities is not None:
            cells += ["" if value != value else round(value, DIGITS) for value in probabilities.tolist()]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        return Response(text.getvalue(), media_type=CSV)


def _cell(value: Any) -> Any:
    """Return a value as a cell of csv; several labels are one text, and a flag is `true` or `false`."""
    if isinstance(value, list):
        return join_labels(value)
    return json.dumps(value) if isinstance(value, bool) else value


def _text(record: dict[str, Any], wanted: Format) -> Response:
    end = "\n" if wanted.media_type == JSON_LINES else ""
    return Response(json.dumps(record) + end, media_type=wanted.media_type)
