"""Whatever labels.parquet pandas writes is read as the labels.csv that it would have written."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.label_table import read_label_table
from data.samples import Samples
from data.several_labels import apply_task
from runtime.errors import DataError
from support.label_tables import LABELS, PETS, folder, named

NAMES = [f"{number}.jpg" for number in range(8)]


def written(root: Path, frame: pd.DataFrame, **how: Any) -> Samples:
    """Write a frame as the label table of a folder with the images `NAMES`, and read it."""
    for name in NAMES:
        (root / name).touch()
    frame.to_parquet(root / "labels.parquet", **how)
    return read_label_table(root)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LABELS, min_size=2, max_size=8),
    st.sampled_from(["object", "str", "string", "category"]),
    st.sampled_from(["snappy", "gzip", "zstd", None]),
    st.booleans(),
)
def test_any_table_that_pandas_writes_is_read_back(
    tmp_path: Path, labels: list[str], kind: str, compression: str | None, has_index: bool
) -> None:
    if len(set(labels)) < 2:
        return
    names = NAMES[: len(labels)]
    frame = pd.DataFrame({"label": pd.Series(labels, dtype=kind), "path": names, "group": labels[::-1]})
    frame.index = [f"row {number}" for number in range(len(labels))][::-1]
    samples = written(tmp_path, frame, compression=compression, index=has_index, row_group_size=3)
    assert named(samples) == dict(zip(names, labels, strict=True))
    assert samples.table["person"].tolist() == labels[::-1]
    assert not samples.notes


@pytest.mark.parametrize(
    "labels", [[3, 12, 3], [0.5, 1.0, 1e20], [True, False, True], pd.array([7, 8, 7], "Int8")], ids=str
)
def test_numbers_are_the_text_that_pandas_writes_into_a_csv_file(tmp_path: Path, labels: Any) -> None:
    frame = pd.DataFrame({"Path ": NAMES[:3], "label": labels})
    found = written(tmp_path, frame)
    (tmp_path / "labels.parquet").unlink()
    frame.to_csv(tmp_path / "labels.csv", index=False)
    assert read_label_table(tmp_path).table.equals(found.table)
    assert read_label_table(tmp_path).scheme == found.scheme


def test_a_missing_value_is_an_empty_cell(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": NAMES[:3], "label": ["NA", "b", "a"], "group": [7.0, None, 7.0], "note": None})
    samples = written(tmp_path, frame)
    assert samples.table["person"].tolist() == ["7.0", "1.jpg", "7.0"]
    assert [note.split(";")[0] for note in samples.notes] == ["columns of labels.parquet ignored: 'note'"]
    with pytest.raises(DataError, match=r"row 2 of labels.parquet has no label"):
        written(tmp_path, frame.assign(label=pd.Series(["a", None, "b"])))


def test_a_list_of_numbers_is_several_labels(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": NAMES[:3], "label": [[3, 12], [], [3]]})
    samples = apply_task(written(tmp_path, frame), "auto")
    assert samples.scheme.classes == ("12", "3")
    assert samples.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_what_is_no_table_of_labels_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels.parquet cannot be read as parquet"):
        read_label_table(folder(tmp_path, "path,label\n", file="labels.parquet"))
    frame = pd.DataFrame({"path": PETS, "label": [{"a": 1}] * 4})
    with pytest.raises(DataError, match=r"has values of type struct<.*> in the column label, expected text"):
        written(tmp_path, frame)
    with pytest.raises(DataError, match="has the columns path, expected label, too"):
        written(tmp_path, frame[["path"]])
    with pytest.raises(DataError, match="has the column 'label' more than once"):
        written(tmp_path, frame.assign(Label="x", label="y"))


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    written(tmp_path, pd.DataFrame({"path": NAMES, "label": list("abababab")}))
    whole = (tmp_path / "labels.parquet").read_bytes()
    for cut in (0, 8, len(whole) // 2, len(whole) - 1):
        (tmp_path / "labels.parquet").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"labels.parquet cannot be read as parquet"):
            read_label_table(tmp_path)
