"""The reader of label tables: labels.csv or labels.jsonl beside the images, with a row for each image. No torch.

Columns: `path` and `label`, maybe `split` (train, val or test) and `group` (images that stay together in a split, such
as those of a patient or a camera). Labels are text, exactly as they are: `0012`, `1.0` and `NA` are names of classes.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from data.label_cells import Cells, clean, read_csv, read_jsonl
from data.layout import LOOSE_IMAGES, OTHER_IMAGES, UNLISTED, check_image_names, find_ignored
from data.listing import Listing, describe_names, list_folder
from data.names import canonical_name, first_names, read_number
from data.samples import Samples
from labels import LabelScheme
from runtime.errors import DataError
from runtime.files import existing_folder

_COLUMNS = ("path", "label", "split", "group", "weight")
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_ELSEWHERE = re.compile(r"/|[A-Za-z]:/|\w+://")  # an absolute path, of Windows too, or an address

_TABLES: Mapping[str, Callable[[Path, Sequence[str]], tuple[Cells, list[str]]]] = {
    "labels.csv": read_csv,
    "labels.jsonl": read_jsonl,
}
_PARQUET = "labels.parquet"


def fits_label_table(channel: Path) -> bool:
    """Return True if the channel contains a label table."""
    return any((channel / name).exists() for name in (*_TABLES, _PARQUET))


def read_label_table(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read the images that a label table lists; paths are relative to the channel, which `variable` names in messages.

    Images that do not exist stay in the table: they cannot be used, and `--on-bad-image` decides. Raises DataError for
    paths that leave the channel, empty cells, rows that contradict each other, and fewer than two classes.
    """
    existing_folder(channel, variable, "labels.csv and the images that it lists")
    path = _find_table(channel, variable)
    cells, others = _TABLES[path.name](path, _COLUMNS)
    _check_columns(cells.columns, others, path)
    listing = list_folder(channel)
    check_image_names(listing)
    names, missing = _find_files(cells, listing, path)
    table, repeated = _tabulate(cells, names, path)
    notes = _notes(path, others, missing, repeated, table["label"].tolist())
    if "part" in table:
        is_tested = table["part"] == "test"
        if is_tested.any():
            notes.append(f"{is_tested.sum()} rows of {path.name} are of the part test, which is left alone: {path}")
        table = table[~is_tested].reset_index(drop=True)
    classes = sorted(set(table["label"].tolist()))
    if len(classes) < 2:
        found = "".join(f", found {name!r}" for name in classes)
        raise DataError(f"{path.name} has {len(classes)} classes; at least 2 are needed{found}: {path}")
    labels = {name: label for label, name in enumerate(classes)}
    table["label"] = [labels[name] for name in table["label"].tolist()]
    ignored = find_ignored(listing, [*names, path.name])
    if unlisted := [*ignored.pop(LOOSE_IMAGES, ()), *ignored.pop(OTHER_IMAGES, ())]:
        ignored[UNLISTED] = unlisted
    return Samples(channel, table, LabelScheme("labels", tuple(classes)), ignored, notes)


def _find_table(channel: Path, variable: str) -> Path:
    """Return the label table of a channel; raise DataError for several, and for one that cannot be read here."""
    found = [name for name in (*_TABLES, _PARQUET) if (channel / name).exists()]
    if found == [_PARQUET]:
        raise DataError(
            f"{_PARQUET} is not read; write it as labels.csv, such as with pandas' to_csv(index=False): {channel}"
        )
    if len(found) != 1:
        raise DataError(f"{variable} contains {' and '.join(found) or 'no labels.csv'}, expected one table: {channel}")
    return channel / found[0]


def _check_columns(columns: Mapping[str, Sequence[str]], others: Sequence[str], path: Path) -> None:
    """Raise DataError for a table without path, label or rows, and for a column that training would ignore."""
    if absent := [name for name in ("path", "label") if name not in columns]:
        found = ", ".join((*columns, *others))
        raise DataError(f"{path.name} has the columns {found or 'none'}, expected {' and '.join(absent)}, too: {path}")
    if "weight" in columns:
        raise DataError(f"{path.name} has a column weight, and images cannot be weighted; remove the column: {path}")
    if not columns["path"]:
        raise DataError(f"{path.name} has no rows, expected one for each image: {path}")


def _find_files(cells: Cells, listing: Listing, path: Path) -> tuple[list[str], list[str]]:
    """Return the path of every row as it is on the disk, and the paths of rows whose file does not exist."""
    on_disk = {canonical_name(name): name for name in listing.files}
    names, missing = [], []
    for number, text in zip(cells.numbers, cells.columns["path"], strict=True):
        name = on_disk.get(text)
        if name is None:
            plain = canonical_name(_inside(text, number, path))
            name = on_disk.get(plain) or on_disk.get(plain.strip())
            if name is None:
                name = plain
                missing.append(name)
        names.append(name)
    if len(missing) == len(names):
        raise DataError(
            f"none of the {len(names)} images of {path.name} exists ({first_names(missing)}), expected paths relative "
            f"to its folder: {path}"
        )
    return names, missing


def _inside(text: str, number: int, path: Path) -> str:
    """Return a path with forward slashes and without `.`; raise DataError for one that leaves the folder."""
    plain = text.replace("\\", "/")
    normal = posixpath.normpath(plain) if plain.strip() else ""
    if not normal or normal == ".":
        raise DataError(f"row {number} of {path.name} has no path, expected the path of an image: {path}")
    if "\0" in normal or _ELSEWHERE.match(plain) or normal.startswith("../") or normal == "..":
        raise DataError(
            f"row {number} of {path.name} has the path {text!r}, expected a path inside the folder of the table, not "
            f"an absolute path, an address or `..`: {path}"
        )
    return normal


def _tabulate(cells: Cells, names: Sequence[str], path: Path) -> tuple[pd.DataFrame, int]:
    """Return the table, sorted by path, with the names of the classes, and the number of rows that repeat another."""
    texts = ("label", "split", "group")
    columns: dict[str, list[str]] = {name: clean(cells.columns[name]) for name in texts if name in cells.columns}
    _check_cells(columns, cells.numbers, path)
    groups = columns.get("group", names)
    found = {"path": names, "person": [group or name for group, name in zip(groups, names, strict=True)]}
    found["label"] = columns["label"]
    if "split" in columns:
        found["part"] = [_PARTS[part.lower()] for part in columns["split"]]
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
    columns = {"label": "label", "part": "split", "person": "group"}
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


def _notes(
    path: Path, others: Sequence[str], missing: Sequence[str], repeated: int, labels: Iterable[str]
) -> list[str]:
    """Return a sentence for each thing about the table that its owner may not know."""
    notes = []
    if others:
        notes.append(
            f"columns of {path.name} ignored: {', '.join(map(repr, others))}; known are {', '.join(_COLUMNS[:4])}"
        )
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
