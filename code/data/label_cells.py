"""The cells of a label table, labels.csv, labels.jsonl or a *.lst, as text exactly as it is in the file. No torch.

labels.parquet is in parquet_cells.py.
The csv module reads strings untouched: pandas would need to be told not to read `NA` as missing and `0012` as 12.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.names import canonical_name
from labels import SEPARATOR, join_labels
from runtime.errors import DataError
from runtime.files import open_regular

MAX_TABLE_BYTES = 1 << 32
LABEL_COLUMN = "label:"  # before the name of a class: a column of 0 and 1
_DELIMITERS = (",", ";", "\t")
_HALF, _HALVES = re.compile(r"\\u[dD]"), re.compile("[\ud800-\udfff]")  # escaped in JSON, and as Python has it


class Cells:
    """The columns of a label table, and the row that each entry is from, counted as a spreadsheet does."""

    def __init__(self, columns: dict[str, list[str]], numbers: Sequence[int]) -> None:
        self.columns, self.numbers = columns, numbers


def read_csv(path: Path, known: Sequence[str]) -> tuple[Cells, list[str]]:
    """Return the cells of the `known` columns of a csv file, and the names of its other columns.

    Columns are separated by a comma, a semicolon or a tab; a byte order mark and any line ending are accepted. Raises
    DataError for a file that is not csv in UTF-8, for columns that are there twice, and for rows of another length.
    """
    try:
        with open_regular(path, MAX_TABLE_BYTES) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            delimiter, header = _read_header(file, path, known)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = list(_checked(reader, len(header), path))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 ({error.reason} at byte {error.start}); save it as `CSV UTF-8`: {path}"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{path.name} cannot be read as csv ({error}), expected pairs of quotes and cells of at most "
            f"{csv.field_size_limit()} characters; look for a quote that is not closed: {path}"
        ) from None
    found = list(zip(*(row for _, row in rows), strict=True)) or [() for _ in header]
    columns = {name: list(cells) for name, cells in zip(header, found, strict=True) if is_known(name, known)}
    return Cells(columns, [number for number, _ in rows]), [name for name in header if not is_known(name, known)]


def is_known(name: str, known: Sequence[str]) -> bool:
    """Return True for the name of a column that is read: one of those `known`, or of a class."""
    return name in known or name.startswith(LABEL_COLUMN)


def column_name(text: str) -> str:
    """Return the name of a column without blanks, in lower case except for the name of a class."""
    kind, colon, name = text.strip().partition(":")
    start = f"{kind.strip().lower()}{colon}"
    return start + name.strip() if start == LABEL_COLUMN else text.strip().lower()


def read_jsonl(path: Path, known: Sequence[str]) -> tuple[Cells, list[str]]:
    """Return the cells of the `known` keys of a file with one JSON object in each line, and its other keys.

    A number, true and false are the text that is in the file: 1.0 stays `1.0`. A missing key and null are an empty
    cell, and `label` may be a list. Raises DataError for a line that is not an object, and for other values.
    """
    columns: dict[str, list[str]] = {name: [] for name in known}
    numbers, others, seen = list[int](), dict[str, None](), set[str]()
    for number, row in read_objects(path):
        for name in row.keys() - columns.keys():
            if is_known(name, known):
                columns[name] = [""] * len(numbers)
        seen.update(row)
        others |= dict.fromkeys(name for name in row if name not in columns)
        for name, cells in columns.items():
            value = "" if row.get(name) is None else row[name]
            if name == "label" and isinstance(value, list):
                value = cell_of_labels(value, number, path)
            if isinstance(value, bool):
                value = json.dumps(value)
            if not isinstance(value, str):
                raise DataError(f"row {number} of {path.name} has {name} {value!r}, expected text: {path}")
            cells.append(value)
        numbers.append(number)
    return Cells({name: cells for name, cells in columns.items() if name in seen}, numbers), list(others)


def cell_of_labels(labels: Sequence[object], row: int, path: Path) -> str:
    """Return the cell of a list of labels, such as `cat|dog|`: the last bar says that even one label is a list.

    Raises DataError for what is not text, and for a label that would become two.
    """
    for label in labels:
        if not isinstance(label, str) or SEPARATOR in label or not label.strip():
            raise DataError(
                f"row {row} of {path.name} has the label {label!r} in a list, expected text without |: {path}"
            )
    return join_labels([*labels, ""])


def read_lst(path: Path, known: Sequence[str]) -> tuple[Cells, list[str]]:
    """Return the cells of a .lst of SageMaker's image classification: index, label and path, separated by tabs.

    Raises DataError for a line with another number of columns, such as one with several labels.
    """
    lines = [(number, line.rstrip("\r\n")) for number, line in enumerate(_read_lines(path), start=1) if line.strip()]
    rows = [line.split("\t") for _, line in lines]
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != 3:
            raise DataError(
                f"row {number} of {path.name} has {len(row)} columns, expected index, label and path with tabs between "
                f"them: {path}"
            )
    columns = {"path": [row[2] for row in rows], "label": [row[1] for row in rows]}
    return Cells(columns, [number for number, _ in lines]), []


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the JSON object of every line that is not empty; numbers are the text that is in the file.

    Raises DataError for a line that is not an object.
    """
    for number, line in enumerate(_read_lines(path), start=1):
        if line.strip():
            yield number, _parse_object(line, path, number)


def _read_header(file: io.TextIOWrapper, path: Path, known: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter and the column names, in lower case; skip the line `sep=;` that Excel writes."""
    line = file.readline()
    if line.strip().lower() in {f"sep={delimiter}" for delimiter in _DELIMITERS}:
        line = file.readline()
    headers = {delimiter: _names(line, delimiter) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda one: len(set(headers[one]) & set(known)))
    header = headers[delimiter]
    require_once(header, known, path)
    return delimiter, header


def require_once(header: Sequence[str], known: Sequence[str], path: Path) -> None:
    """Raise DataError for a `known` column that is there twice."""
    if twice := [name for name in header if is_known(name, known) and header.count(name) > 1]:
        raise DataError(f"{path.name} has the column {twice[0]!r} more than once, expected it once: {path}")


def _names(line: str, delimiter: str) -> list[str]:
    return [column_name(name) for name in next(csv.reader([line], delimiter=delimiter), [])]


def _checked(reader: Any, width: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every row that is not empty; empty cells after the last column do not count."""
    for number, row in enumerate(reader, start=2):
        if len(row) != width:
            if not any(cell.strip() for cell in row):
                continue
            if any(row[width:]) or len(row) < width:
                raise DataError(
                    f"row {number} of {path.name} has {len(row)} columns, its header has {width}; put names with the "
                    f"delimiter in quotes: {path}"
                )
            row = row[:width]
        elif not any(row):
            continue
        yield number, row


def _read_lines(path: Path) -> list[str]:
    try:
        with open_regular(path, MAX_TABLE_BYTES) as data, io.TextIOWrapper(data, "utf-8-sig") as file:
            return list(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 ({error.reason} at byte {error.start}): {path}") from None


def _parse_object(line: str, path: Path, number: int) -> dict[str, Any]:
    """Return the object in a line, its numbers as text; raise DataError for any other line, and for half a character.

    JSON writes characters above U+FFFF as two halves, and one of them alone is not text that can be stored.
    """
    try:
        row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise DataError(f"row {number} of {path.name} is not JSON ({error}): {path}") from None
    if not isinstance(row, dict):
        raise DataError(f"row {number} of {path.name} is not an object such as {{}}: {path}")
    if half := _HALF.search(line) and _HALVES.search(json.dumps(row, ensure_ascii=False)):
        raise DataError(
            f"row {number} of {path.name} contains {half[0]!a}, half of a character, expected text in Unicode: {path}"
        )
    return row


def clean(texts: Sequence[str]) -> list[str]:
    """Return labels or groups without blanks around them, in Unicode form NFC; texts that are equal stay one object."""
    known: dict[str, str] = {}
    for text in texts:
        if text not in known:
            known[text] = canonical_name(text.strip())
    return [known[text] for text in texts]
