"""The reader of label tables: labels.csv, .jsonl, .parquet or a *.lst beside the images, a row for each. No torch.

Columns: `path` and `label`, maybe `split` (train, val or test), `group` (images that stay together in a split, such as
those of a patient or a camera) and `weight` (what an image's loss is multiplied by). Labels are text, exactly as they
are: `0012`, `1.0` and `NA` are names of classes. Several labels are a text such as `a|b`, or columns `label:NAME` of 0
and 1 instead of `label` (several_labels.py).
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.images import is_image_file
from data.label_cells import LABEL_COLUMN, Cells, read_csv, read_jsonl, read_lst
from data.label_columns import join_label_columns
from data.label_rows import samples_of_rows
from data.layout import check_image_names
from data.listing import Listing, is_given, list_folder
from data.names import canonical_name, first_names
from data.parquet_cells import read_parquet
from data.samples import Samples
from data.several_labels import with_several_labels
from runtime.errors import DataError
from runtime.files import existing_folder, visible

_COLUMNS = ("path", "label", "split", "group", "weight")
_ELSEWHERE = re.compile(r"/|[A-Za-z]:/|\w+://")  # an absolute path, of Windows too, or an address

_TABLES: Mapping[str, Callable[[Path, Sequence[str]], tuple[Cells, list[str]]]] = {
    "labels.csv": read_csv,
    "labels.jsonl": read_jsonl,
    "labels.parquet": read_parquet,
}


def fits_label_table(channel: Path) -> bool:
    """Return True if the channel contains a label table."""
    return bool(_tables(channel))


def read_label_table(channel: Path, variable: str = "SM_CHANNEL_TRAIN") -> Samples:
    """Read the images that a label table lists; paths are relative to the channel, which `variable` names in messages.

    Images that do not exist stay in the table: they cannot be used, and `--on-bad-image` decides. Raises DataError for
    paths that leave the channel, empty cells, rows that contradict each other, and fewer than two classes.
    """
    existing_folder(channel, variable, "labels.csv and the images that it lists")
    path = _find_table(channel, variable)
    cells, others = _TABLES.get(path.name, read_lst)(path, _COLUMNS)
    _check_columns(cells.columns, others, path)
    listing = list_folder(channel)
    check_image_names(listing)
    names, missing = _find_files(cells, listing, path)
    several = join_label_columns(cells, path)
    ignored, known = ", ".join(map(repr, others)), ", ".join(_COLUMNS)
    notes = [f"columns of {path.name} ignored: {ignored}; known are {known}: {path}"] if others else []
    samples = samples_of_rows(listing, path, cells, (names, missing), notes)
    return with_several_labels(samples, several) if several else replace(samples, has_label_texts=True)


def _tables(channel: Path) -> list[str]:
    """Return the names of the label tables in a channel: those that are known, and every *.lst."""
    named = [name for name in _TABLES if is_given(channel / name)]
    return named + [path.name for path in visible(channel, "*.lst") if is_given(path) and path.is_file()]


def _find_table(channel: Path, variable: str) -> Path:
    """Return the label table of a channel; raise DataError unless there is one."""
    found = _tables(channel)
    if len(found) != 1:
        raise DataError(f"{variable} contains {' and '.join(found) or 'no labels.csv'}, expected one table: {channel}")
    return channel / found[0]


def _check_columns(columns: Mapping[str, Sequence[str]], others: Sequence[str], path: Path) -> None:
    """Raise DataError for a table without path, label or rows, and for a column that training would ignore."""
    if images := [name for name in others if is_image_file(name)]:
        raise DataError(
            f"{path.name} starts with the image {images[0]!r}, expected a row of column names above it, such as "
            f"path,label: {path}"
        )
    has_label = any(name.startswith(LABEL_COLUMN) for name in columns)
    if has_label and "label" in columns:
        raise DataError(
            f"{path.name} has a column label and columns such as {LABEL_COLUMN}cat, expected one of both: {path}"
        )
    if absent := [name for name in ("path", "label") if name not in columns and not (name == "label" and has_label)]:
        found = ", ".join((*columns, *others))
        raise DataError(
            f"{path.name} has the columns {found or 'none'}, expected {' and '.join(absent)}, too; rename them, or "
            f"name another layout with --dataset: {path}"
        )
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
