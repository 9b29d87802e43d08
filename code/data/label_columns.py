"""The columns `label:NAME` of a label table, 0 or 1 for each class, as one column of texts such as `a|b`. No torch."""

from pathlib import Path

from data.label_cells import LABEL_COLUMN, Cells, clean
from labels import SEPARATOR, join_labels
from runtime.errors import DataError

_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def join_label_columns(cells: Cells, path: Path) -> list[str]:
    """Give the cells of a table a column `label`, and return the names of all classes; none without such columns.

    Raises DataError for a name that is empty or contains `|`, and for cells that are neither 0 nor 1.
    """
    columns = {name: cells.columns.pop(name) for name in list(cells.columns) if name.startswith(LABEL_COLUMN)}
    names = clean([name.removeprefix(LABEL_COLUMN) for name in columns])
    if wrong := [name for name in names if not name or SEPARATOR in name or names.count(name) > 1]:
        raise DataError(
            f"{path.name} has the column {LABEL_COLUMN + wrong[0]!r}, expected {LABEL_COLUMN} and the name of a class, "
            f"each once and without {SEPARATOR!r}: {path}"
        )
    for name, column in columns.items():
        if unknown := [index for index, text in enumerate(column) if text.strip().lower() not in _FLAGS]:
            number, text = cells.numbers[unknown[0]], column[unknown[0]]
            raise DataError(f"row {number} of {path.name} has {text!r} in {name!r}, expected 0 or 1: {path}")
    if columns:
        flags = zip(*([_FLAGS[text.strip().lower()] for text in column] for column in columns.values()), strict=True)
        cells.columns["label"] = [
            join_labels(name for name, flag in zip(names, row, strict=True) if flag) for row in flags
        ]
    return names
