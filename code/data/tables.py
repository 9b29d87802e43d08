"""Tables with one row for each image: info.csv and gt.csv in, output.csv out. All text. No torch, no pandas.

Inference, batch transform and `submit.py download` write the same bytes because all of them write output.csv here.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Self

from data.images import EXTENSIONS, is_image_file
from data.listing import BROKEN_LINKS, describe_ignored, is_given, list_folder, walk_files
from data.names import canonical_name, check_names, first_names
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from runtime.files import existing_folder, open_regular, replacing

INFO_CSV = "info.csv"  # images to label
OUTPUT_CSV = "output.csv"  # predictions
SCHEME_JSON = "scheme.json"  # meaning of the class numbers in output.csv
GT_CSV = "gt.csv"  # ground truth
PERSONS_CSV = "persons.csv"  # person in each image
STATUS, OK, UNSURE = "status", "ok", "unsure"  # a column of output.csv, and its values where there is a prediction
PROBABILITY = "probability_"  # start of the names of the columns with probabilities, which end with class numbers
MAX_TABLE_BYTES = 1 << 30
_ADDED = re.compile(rf"{STATUS}|{PROBABILITY}\d+")  # columns that inference adds


@dataclass(frozen=True)
class Table:
    """Rows of text by column, and which columns name the image and its class."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    image: str = "ImageID"
    answer: str = "ans"  # not among the columns if it is to be added

    @property
    def names(self) -> list[str]:
        """Return the ImageID of every row, whatever its column is called."""
        return [row[self.image] for row in self.rows]

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
    """Read a csv file with a column of images and at least one of `columns`, if any are given.

    The images are in the column ImageID, else in the first. Their classes are in the column ans, or without ImageID and
    ans in the second of two columns, as in info.csv files of others; these columns then count as ImageID and ans.
    With `columns`, every row must have all cells, and columns that inference adds to output.csv may follow the two.
    Without, cells are kept as they are, and missing ones are empty.
    Raises DataError if the file is missing, is not csv in UTF-8, or lacks a header (row 1), rows, columns or cells.
    """
    expected = " and ".join(part for part in ("ImageID", " or ".join(columns)) if part)
    if not path.is_file():
        raise DataError(f"there is no {path.name}, expected columns {expected}: {path}")
    try:
        with open_regular(path, MAX_TABLE_BYTES) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=bool(columns), strict=True)
            found = tuple(name.strip() for name in next(reader, []))
            cells = {number: row for number, row in enumerate(reader, start=2) if any(cell.strip() for cell in row)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} cannot be read as csv in UTF-8 ({error}): {path}") from None
    if len(found) == 1 and (";" in found[0] or "\t" in found[0]):
        raise DataError(f"{path.name} starts with {found[0]!r}, expected commas between its columns: {path}")
    image, answer = _name_columns(found, are_filled=bool(columns))
    named = {"ans" if name == answer else name for name in found if name != image} | (set(found) - {image})
    if not image or (columns and not set(columns) & named):
        raise DataError(f"{path.name} starts with {','.join(found)!r}, expected {expected}: {path}")
    if is_image_file(image):
        raise DataError(f"{path.name} starts with the image {image!r}, expected a row of column names above it: {path}")
    if len(set(found)) < len(found):
        raise DataError(f"{path.name} starts with {','.join(found)!r}, expected each name once: {path}")
    if not cells:
        raise DataError(f"{path.name} has no rows, expected one for each image: {path}")
    rows = [dict(zip_longest(found, row[: len(found)], fillvalue="")) for row in cells.values()]
    for row, (number, read) in zip(rows, cells.items(), strict=True):
        if not row[image] or len(read) > len(found) or (columns and len(read) < len(found)):
            raise DataError(
                f"row {number} of {path.name} does not match the {len(found)} columns of its header: {path}"
            )
    return Table(found, rows, image, answer)


def _name_columns(found: Sequence[str], *, are_filled: bool) -> tuple[str, str]:
    """Return the columns of the images and of their classes; the image's is empty if there is none.

    If the classes are to be filled in, they are in no column that inference adds, as it would replace them.
    """
    image = "ImageID" if "ImageID" in found else next(iter(found), "")
    if image == "ans":
        return "", "ans"
    if image == "ImageID" or "ans" in found or len(found) < 2:
        return image, "ans"
    is_added = [bool(_ADDED.fullmatch(name)) for name in found]
    has_classes = all(is_added[2:]) if are_filled else len(found) == 2 and not is_added[1]
    return image, found[1] if has_classes else "ans"


def find_images(data_dir: Path, variable: str = "SM_CHANNEL_EVAL") -> tuple[Table, list[Path]]:
    """Return the rows of info.csv and the path of each; without info.csv, every image below the folder, sorted.

    `variable` names the folder in messages. An ImageID of info.csv names a file in any Unicode form, and may have any
    ending. Without info.csv, hidden files are ignored, and other files are ignored with a warning that names them. A
    broken link to an image has a row, as an image that cannot be opened.
    Raises DataError if there are no images, for a name that is not UTF-8, and for names that differ only in their form.
    """
    existing_folder(data_dir, variable, f"{INFO_CSV} and images/, or images")
    root = find_root(data_dir)
    if is_given(data_dir / INFO_CSV):
        table = read_table(data_dir / INFO_CSV)
        _check_inside(table, data_dir / INFO_CSV)
        check_names(table.names, data_dir / INFO_CSV)
        return table, [root / name for name in _find_files(root, table.names)]
    listing = list_folder(data_dir)
    for sentence in describe_ignored(listing.ignored | {BROKEN_LINKS: []}, data_dir):
        print(f"warning: {sentence}", file=sys.stderr)
    found = listing.with_broken_links()
    names = [name for name in found if is_image_file(name)]
    check_names(names, data_dir)
    ignored = [name for name in found if not is_image_file(name)]
    if ignored:
        print(
            f"warning: other files ignored: {len(ignored)} ({first_names(ignored, 8)}), expected "
            f"{', '.join(EXTENSIONS)}; to label files with other endings, list them in {INFO_CSV}: {data_dir}",
            file=sys.stderr,
        )
    if not names:
        raise DataError(f"no images to label, expected rows in {INFO_CSV} or image files: {data_dir}")
    return Table(("ImageID",), [{"ImageID": name} for name in names]), [root / name for name in names]


def _check_inside(table: Table, where: Path) -> None:
    """Raise DataError for a name that is not that of a file below the folder of images."""
    for number, name in enumerate(table.names, start=2):  # the header is row 1
        if "\0" in name or name.startswith("/") or ".." in name.split("/"):
            raise DataError(
                f"row {number} of {where.name} has the {table.image} {name!r}, expected the path of an image in the "
                f"folder, not an absolute path, `..` or a zero byte: {where}"
            )


def _find_files(root: Path, names: Sequence[str]) -> Sequence[str]:
    """Return the names as they are on the disk, where the Unicode form may be another."""
    if all(name.isascii() for name in names):
        return names
    wanted = {canonical_name(name) for name in names}
    found = [name for name in walk_files(root) if canonical_name(name) in wanted]
    check_names(found, root)
    on_disk = {canonical_name(name): name for name in found}
    return [on_disk.get(canonical_name(name), name) for name in names]


def find_root(data_dir: Path) -> Path:
    """Return the folder that ImageIDs are relative to: images/ if it is beside info.csv, as in the competition."""
    has_folder = is_given(data_dir / INFO_CSV) and (data_dir / "images").is_dir()
    return data_dir / "images" if has_folder else data_dir


def write_predictions(folder: Path, table: Table, scheme: LabelScheme | None, answers: str = "index") -> Path:
    """Write output.csv and return its path; write scheme.json, too, if the classes are not those of masked faces.

    Without scheme.json, evaluation reads class numbers as masked faces; None stands for masked faces. `answers` is
    `index` or `name`, as in --answers; scheme.json holds the latter, because a class may be named like a number.
    An output.csv whose numbers mean other classes is removed first: what is killed never leaves it with this scheme.
    """
    text = "" if scheme is None or scheme == MASKED_FACES else _scheme_text(scheme, answers)
    file_of_scheme = folder / SCHEME_JSON
    if text != (file_of_scheme.read_text("utf-8", "replace") if file_of_scheme.is_file() else ""):
        (folder / OUTPUT_CSV).unlink(missing_ok=True)
    if text:
        with replacing(file_of_scheme) as file:
            file.write(text)
    else:
        file_of_scheme.unlink(missing_ok=True)
    with replacing(folder / OUTPUT_CSV) as file:
        writer = csv.DictWriter(file, table.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.rows)
    return folder / OUTPUT_CSV


def _scheme_text(scheme: LabelScheme, answers: str) -> str:
    return json.dumps(scheme.to_dict() | ({"answers": answers} if answers != "index" else {}), indent=2) + "\n"
