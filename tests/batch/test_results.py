"""The responses of a batch transform become the output.csv that inference would have written."""

from pathlib import Path

import pytest

from batch.results import Response, join_downloaded, read_downloaded
from data.tables import Table
from runtime.errors import DataError
from support.transform_outputs import write_outputs


def responses(folder: Path) -> dict[str, Response]:
    """Return the responses below a folder as `submit.py download` reads them."""
    return read_downloaded(sorted(folder.rglob("*.out")), folder)


def cells(table: Table) -> list[str]:
    return [",".join(row) for row in (table.columns, *(row.values() for row in table.rows))]


def write_info(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_and_order_and_columns_are_those_of_info_csv(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=3, images__b=0, images__c=17)
    info = write_info(tmp_path / "info.csv", "ImageID,ans,note\nc.jpg,0,x\na.jpg,0,y\n")
    assert cells(join_downloaded(responses(folder), info)) == ["ImageID,ans,note", "c.jpg,17,x", "a.jpg,3,y"]


def test_without_info_csv_every_response_is_a_row_sorted_by_name(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", b=1, sub__a=2)
    assert cells(join_downloaded(responses(folder), None)) == ["ImageID,ans", "b.jpg,1", "sub/a.jpg,2"]


def test_an_image_without_a_prediction_keeps_its_row_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_outputs(tmp_path / "out", a=None, b=4)
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\nb.jpg,0\nlost.jpg,0\n")
    assert cells(join_downloaded(responses(folder), info)) == ["ImageID,ans", "a.jpg,", "b.jpg,4", "lost.jpg,"]
    assert capsys.readouterr().err == "2 of 3 images have no prediction: a.jpg, lost.jpg\n"


def test_the_response_to_info_csv_is_ignored_and_hides_no_image(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=3)
    (folder / "info.csv.out").write_text('{"error": {"code": "undecodable_image"}, "prediction": null}')
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n")
    assert cells(join_downloaded(responses(folder), info)) == ["ImageID,ans", "a.jpg,3"]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"label": 3}', '{"prediction": [3]}'])
def test_a_response_of_another_image_is_rejected_by_name(tmp_path: Path, text: str) -> None:
    folder = write_outputs(tmp_path / "out", a=1)
    (folder / "a.jpg.out").write_text(text)
    with pytest.raises(DataError, match=r"not a response of this image, expected JSON with `prediction` .*a\.jpg\.out"):
        responses(folder)


def test_a_wrong_info_csv_is_named(tmp_path: Path) -> None:
    found = responses(write_outputs(tmp_path / "out", a=1))
    with pytest.raises(DataError, match=r"there is no none\.csv, expected columns ImageID"):
        join_downloaded(found, tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"info\.csv starts with 'a,b', expected ImageID"):
        join_downloaded(found, write_info(tmp_path / "info.csv", "a,b\n1,2\n"))
