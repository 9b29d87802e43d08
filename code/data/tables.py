"""Tables with one row for each image: info.csv and gt.csv in, output.csv out. All text. No torch, no pandas.

Inference, batch transform and `submit.py download` write the same bytes because all of them write output.csv here.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Self

from data.images import is_image_file
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from runtime.files import existing_folder, replacing

INFO_CSV = "info.csv"  # images to label
OUTPUT_CSV = "output.csv"  # predictions
SCHEME_JSON = "scheme.json"  # meaning of the class numbers in output.csv
GT_CSV = "gt.csv"  # ground truth
PERSONS_CSV = "persons.csv"  # person in each image


@dataclass(frozen=True)
class Table:
    """Rows of text by column, one of which is ImageID."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]

    @property
    def names(self) -> list[str]:
        """Return the ImageID of every row."""
        return [row["ImageID"] for row in self.rows]

    def with_columns(self, columns: Mapping[str, Iterable[object]]) -> Self:
        """Return a copy in which columns are replaced, or appended if they are new; None is an empty cell.

        Raises ValueError unless a column has one value for each row.
        """
        cells = (("" if value is None else str(value) for value in values) for values in columns.values())
        rows = [
            row | dict(zip(columns, texts, strict=True))
            for row, texts in zip(self.rows, zip(*cells, strict=True), strict=True)
        ]
        return replace(self, columns=tuple(dict.fromkeys((*self.columns, *columns))), rows=rows)


def read_table(path: Path, *columns: str) -> Table:
    """Read a csv file with ImageID and at least one of `columns`, if any are given.

    With `columns`, every row must have all cells. Without, cells are kept as they are, and missing ones are empty.
    Raises DataError if the file is missing, is not csv in UTF-8, or lacks rows, columns or cells.
    """
    expected = " and ".join(part for part in ("ImageID", " or ".join(columns)) if part)
    if not path.is_file():
        raise DataError(f"there is no {path.name}, expected columns {expected}: {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=bool(columns), strict=True)
            found = tuple(name.strip() for name in next(reader, []))
            cells = [row for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read as csv in UTF-8 ({error}): {path}") from None
    if "ImageID" not in found or (columns and not set(columns) & set(found)):
        raise DataError(f"{path.name} starts with {','.join(found)!r}, expected {expected}: {path}")
    if len(set(found)) < len(found):
        raise DataError(f"{path.name} starts with {','.join(found)!r}, expected each name once: {path}")
    if not cells:
        raise DataError(f"{path.name} has no rows, expected one for each image: {path}")
    rows = [dict(zip_longest(found, row[: len(found)], fillvalue="")) for row in cells]
    for number, (row, read) in enumerate(zip(rows, cells, strict=True), start=1):
        if not row["ImageID"] or len(read) > len(found) or (columns and len(read) < len(found)):
            raise DataError(
                f"row {number} of {path.name} does not match the {len(found)} columns of its header: {path}"
            )
    return Table(found, rows)


def find_images(data_dir: Path) -> tuple[Table, list[Path]]:
    """Return the rows of info.csv and the path of each; without info.csv, every image below the folder, sorted.

    Raises DataError if there are none. Hidden files and folders are ignored.
    """
    existing_folder(data_dir, "SM_CHANNEL_EVAL", f"{INFO_CSV} and images/, or images")
    if (data_dir / INFO_CSV).exists():
        table = read_table(data_dir / INFO_CSV)
    else:
        found = [path.relative_to(data_dir) for path in sorted(data_dir.rglob("*")) if path.is_file()]
        names = [path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)]
        table = Table(("ImageID",), [{"ImageID": name} for name in names if is_image_file(name)])
    if not table.rows:
        raise DataError(f"no images to label, expected rows in {INFO_CSV} or image files: {data_dir}")
    root = find_root(data_dir)
    return table, [root / name for name in table.names]


def find_root(data_dir: Path) -> Path:
    """Return the folder that ImageIDs are relative to: images/ if it is beside info.csv, as in the competition."""
    has_folder = (data_dir / INFO_CSV).exists() and (data_dir / "images").is_dir()
    return data_dir / "images" if has_folder else data_dir


def write_predictions(folder: Path, table: Table, scheme: LabelScheme | None) -> Path:
    """Write output.csv and return its path; write scheme.json, too, if the classes are not those of masked faces.

    Without scheme.json, evaluation reads class numbers as masked faces; None stands for masked faces.
    """
    if scheme in (None, MASKED_FACES):
        (folder / SCHEME_JSON).unlink(missing_ok=True)
    else:
        with replacing(folder / SCHEME_JSON) as file:
            file.write(json.dumps(scheme.to_dict(), indent=2) + "\n")
    with replacing(folder / OUTPUT_CSV) as file:
        writer = csv.DictWriter(file, table.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.rows)
    return folder / OUTPUT_CSV
