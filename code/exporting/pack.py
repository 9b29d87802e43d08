"""Tables of probabilities in a golden pack: a row per file, a column per class. No torch."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError
from runtime.files import replacing

GOLDEN, EXPECTED, MISTAKES = "golden.json", "expected.csv", "mistakes.csv"
STAGES = {  # folder of the pack -> the first stage that its files go through
    "images": "decode",
    "decoded": "resize",
    "prepared": "normalise",
    "normalised": "network",
}

Rows = Mapping[str, NDArray[np.float32]]  # path in the pack -> probabilities (classes,)


@dataclass(frozen=True)
class Mistake:
    """A mistake, and the probabilities that it gives."""

    stage: str
    name: str
    rows: Rows


def write_rows(path: Path, rows: Rows) -> None:
    """Write a table `input,probability_0,probability_1,...`, every float32 with all of its digits."""
    _write(path, ["input"], [([name], values) for name, values in rows.items()])


def write_mistakes(path: Path, mistakes: Sequence[Mistake]) -> None:
    """Write a table `stage,mistake,input,probability_0,...`."""
    rows = [([each.stage, each.name, name], values) for each in mistakes for name, values in each.rows.items()]
    _write(path, ["stage", "mistake", "input"], rows)


def _write(path: Path, names: list[str], rows: Sequence[tuple[list[str], NDArray[np.float32]]]) -> None:
    with replacing(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*names, *(f"probability_{label}" for label in range(len(rows[0][1])))])
        table.writerows([*cells, *map(str, values)] for cells, values in rows)


def read_pack(folder: Path) -> tuple[Rows, list[Mistake], list[str]]:
    """Return the expected rows of a golden pack, its mistakes and the names of the classes; raises DataError."""
    try:
        classes = [str(name) for name in json.loads((folder / GOLDEN).read_text(encoding="utf-8"))["classes"]]
        mistakes: dict[tuple[str, str], dict[str, NDArray[np.float32]]] = {}
        with (folder / MISTAKES).open(encoding="utf-8", newline="") as file:
            for stage, name, path, *cells in list(csv.reader(file))[1:]:
                if len(cells) != len(classes):
                    raise ValueError(f"{len(cells)} probabilities of {len(classes)} classes in {MISTAKES}")
                mistakes.setdefault((stage, name), {})[path] = np.array(cells, np.float32)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise DataError(f"not a golden pack ({error}); expected the folder that make export writes: {folder}") from None
    return read_rows(folder / EXPECTED, classes), [Mistake(*key, rows) for key, rows in mistakes.items()], classes


def read_rows(path: Path, classes: Sequence[str]) -> Rows:
    """Return the rows of a table of probabilities; raises DataError for one that cannot be used.

    The first column names the file; its last two parts count, with slashes of either kind. The others are
    `probability_0` and so on, or the names of the classes, in any order; further columns are ignored.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot be read as a csv file ({error}): {path}") from None
    columns = [_column(header, label, name) for label, name in enumerate(classes)]
    if None in columns:
        missing = columns.index(None)
        raise DataError(
            f"there is no column probability_{missing} and none {classes[missing]!r}; it starts with "
            f"{','.join(header)[:80]!r}, expected input,probability_0,probability_1 and so on, with commas: {path}"
        )
    found = {}
    for number, line in enumerate(lines, 2):
        if not any(cell.strip() for cell in line):
            continue
        try:
            values = np.array([float(line[column]) for column in columns if column is not None], np.float32)
        except (ValueError, IndexError):
            raise DataError(f"row {number} does not have a number for each of {len(classes)} classes: {path}") from None
        name = "/".join(PurePosixPath(re.sub(r"\\", "/", line[0].strip())).parts[-2:])
        if name in found:
            raise DataError(f"two rows for {name!r}: {path}")
        found[name] = values
    return found


def _column(header: Sequence[str], label: int, name: str) -> int | None:
    """Return the column of a class; of its number, or else of its name."""
    names = [cell.strip() for cell in header]
    return next((names.index(each, 1) for each in (f"probability_{label}", name) if each in names[1:]), None)
