"""From the rows of a label table or manifest to a data set: checked, sorted by path, with class numbers. No torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.label_cells import Cells, clean
from data.layout import LOOSE_IMAGES, OTHER_IMAGES, UNLISTED, find_ignored
from data.listing import Listing, describe_names
from data.names import read_number
from data.samples import Samples
from labels import LabelScheme
from runtime.errors import DataError

MAX_WEIGHT = 1e9  # sums over a batch stay exact enough in float32
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def samples_of_rows(
    listing: Listing, path: Path, cells: Cells, found: tuple[Sequence[str], Sequence[str]], notes: Sequence[str] = ()
) -> Samples:
    """Return the data set of the table at `path`, whose images are in the folder that `listing` lists.

    `found` are the path of every row below that folder, and the paths of those that do not exist. Raises DataError for
    empty cells, rows that contradict each other, and fewer than two classes.
    """
    names, missing = found
    table, repeated = _tabulate(cells, names, path)
    notes = [*notes, *_notes(path, missing, repeated, table["label"].tolist())]
    if "part" in table:
        is_tested = table["part"] == "test"
        if is_tested.any():
            notes.append(f"{is_tested.sum()} rows of {path.name} are of the part test, which is left alone: {path}")
        table = table[~is_tested].reset_index(drop=True)
        if table.empty:
            raise DataError(f"all rows of {path.name} are of the part test, expected some of train: {path}")
    classes = sorted(set(table["label"].tolist()))
    if len(classes) < 2:
        only = "".join(f", found {name!r}" for name in classes)
        raise DataError(f"{path.name} has {len(classes)} classes; at least 2 are needed{only}: {path}")
    labels = {name: label for label, name in enumerate(classes)}
    table["label"] = [labels[name] for name in table["label"].tolist()]
    used = [*names, path.name] if path.parent == listing.root else names
    ignored = find_ignored(listing, used)
    if unlisted := [*ignored.pop(LOOSE_IMAGES, ()), *ignored.pop(OTHER_IMAGES, ())]:
        ignored[UNLISTED] = unlisted
    return Samples(listing.root, table, LabelScheme("labels", tuple(classes)), ignored, notes)


def _tabulate(cells: Cells, names: Sequence[str], path: Path) -> tuple[pd.DataFrame, int]:
    """Return the table, sorted by path, with the names of the classes, and the number of rows that repeat another."""
    texts = ("label", "split", "group")
    columns: dict[str, list[str]] = {name: clean(cells.columns[name]) for name in texts if name in cells.columns}
    _check_cells(columns, cells.numbers, path)
    groups = columns.get("group", names)
    found: dict[str, Sequence[Any]] = {
        "path": names,
        "person": [group or name for group, name in zip(groups, names, strict=True)],
    }
    found["label"] = columns["label"]
    if "split" in columns:
        found["part"] = [_PARTS[part.lower()] for part in columns["split"]]
    if "weight" in cells.columns:
        found["weight"] = _read_weights(cells.columns["weight"], cells.numbers, path)
    order = sorted(range(len(names)), key=names.__getitem__)  # faster than pandas for a million rows
    table = pd.DataFrame({name: [values[index] for index in order] for name, values in found.items()}, index=order)
    if len(set(names)) < len(names):
        table = table.drop_duplicates()
        _check_unambiguous(table, cells.numbers, path)
    return table.reset_index(drop=True), len(names) - len(table)


def _check_unambiguous(table: pd.DataFrame, numbers: Sequence[int], path: Path) -> None:
    """Raise DataError for two rows about the same image, which differ in another column."""
    rows = table[table["path"].duplicated(keep=False)]
    if rows.empty:
        return
    rows = rows[rows["path"] == rows["path"].iloc[0]].head(2)
    first, second = sorted(numbers[index] for index in rows.index)
    columns = {"label": "label", "part": "split", "person": "group", "weight": "weight"}
    column = next(name for name in columns if name in rows and rows[name].nunique() > 1)
    raise DataError(
        f"rows {first} and {second} of {path.name} contradict each other about {rows['path'].iloc[0]!r}: "
        f"{columns[column]} {' and '.join(map(repr, rows[column]))}; keep one of them: {path}"
    )


def _check_cells(columns: Mapping[str, Sequence[str]], numbers: Sequence[int], path: Path) -> None:
    """Raise DataError for an empty label, and for a split that is none."""
    for number, label in zip(numbers, columns["label"], strict=True):
        if not label:
            raise DataError(f"row {number} of {path.name} has no label, expected the name of a class: {path}")
    wrong = {part for part in columns.get("split", ()) if part.lower() not in _PARTS}
    for number, part in zip(numbers, columns.get("split", numbers), strict=True):
        if part in wrong:
            raise DataError(f"row {number} of {path.name} has the split {part!r}, expected train, val or test: {path}")


def _read_weights(texts: Sequence[str], numbers: Sequence[int], path: Path) -> list[float]:
    """Return the weights of all images; raise DataError for one that is no number from 0 to MAX_WEIGHT."""
    known = {text: _to_weight(text) for text in set(texts)}
    for number, text in zip(numbers, texts, strict=True):
        if not 0 <= known[text] <= MAX_WEIGHT:  # nor is NaN
            raise DataError(
                f"row {number} of {path.name} has the weight {text!r}, expected a number from 0 to {MAX_WEIGHT:g}, "
                f"such as 0.5: {path}"
            )
    return [known[text] for text in texts]


def _to_weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _notes(path: Path, missing: Sequence[str], repeated: int, labels: Iterable[str]) -> list[str]:
    """Return a sentence for each thing about the table that its owner may not know."""
    notes = []
    if missing:
        notes.append(f"images of {path.name} that do not exist: {describe_names(missing)}; --on-bad-image decides")
    if repeated:
        notes.append(f"{repeated} rows of {path.name} repeat another one and count once")
    numbers: dict[float, list[str]] = {}
    for name in sorted(set(labels)):
        if (number := read_number(name)) is not None:
            numbers.setdefault(number, []).append(name)
    if same := [names for names in numbers.values() if len(names) > 1]:
        notes.append(
            f"classes of {path.name} that a spreadsheet reads as the same number: {' and '.join(map(repr, same[0]))}; "
            "if they are one class, correct the table"
        )
    return [f"{note}: {path}" for note in notes]
