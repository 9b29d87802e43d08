"""The cells of labels.parquet as text, as label_cells.py has those of the other label tables. No torch."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from data.label_cells import MAX_TABLE_BYTES, Cells, cell_of_labels, column_name, is_known, require_once
from runtime.errors import DataError, reason_of
from runtime.files import open_regular

_INDEX = "__index_level_"  # what pandas calls an index without a name


def read_parquet(path: Path, known: Sequence[str]) -> tuple[Cells, list[str]]:
    """Return the cells of the `known` columns of a parquet file, and the names of its other columns.

    A number is the text that pandas writes into a csv file: 12, 1.0 and True; a value that is missing or NaN is an
    empty cell. A category counts as its text, and `label` may have lists. The index of a frame is ignored.
    Raises DataError for a file that is not parquet, for columns that are there twice, and for other values.
    """
    try:
        with open_regular(path, MAX_TABLE_BYTES) as data:
            file = pq.ParquetFile(data)
            header = [column_name(name) for name in file.schema_arrow.names]
            require_once(header, known, path)
            chosen = [(name, number) for number, name in enumerate(header) if is_known(name, known)]
            columns = {name: _read_column(file, number, name, path) for name, number in chosen}
            rows = file.metadata.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read as parquet ({reason_of(error)}): {path}") from None
    others = [name for name in header if not is_known(name, known) and not name.startswith(_INDEX)]
    return Cells(columns, range(1, rows + 1)), others


def _read_column(file: pq.ParquetFile, number: int, name: str, path: Path) -> list[str]:
    """Return the cells of a column; only one column at a time is in memory twice."""
    spelled = file.schema_arrow.names[number]
    column = file.read(columns=[spelled], use_threads=False).column(0)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_null(column.type):
        return [""] * len(column)
    if types.is_string(column.type) or types.is_large_string(column.type) or types.is_string_view(column.type):
        return [text or "" for text in column.to_pylist()]
    if types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type):
        return ["" if value is None or value != value else str(value) for value in column.to_pylist()]
    if name == "label" and (types.is_list(column.type) or types.is_large_list(column.type)):
        if types.is_integer(column.type.value_type):
            column = column.cast(pa.list_(pa.string()))
        lists = enumerate(column.to_pylist(), start=1)
        return ["" if labels is None else cell_of_labels(labels, row, path) for row, labels in lists]
    raise DataError(f"{path.name} has values of type {column.type} in the column {name}, expected text: {path}")
