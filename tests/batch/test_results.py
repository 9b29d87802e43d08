"""The responses of a batch transform become the output.csv that inference would have written."""

from pathlib import Path

import pytest

from batch.results import OutputFolder, Response, join_downloaded, read_downloaded
from data.tables import Table
from runtime.errors import DataError
from support.transform_outputs import write_outputs


def read(folder: Path, info: Path | None = None) -> tuple[Table, dict[str, Response]]:
    """Return the rows and the responses below a folder as `submit.py download` reads them."""
    return read_downloaded({path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.out"))}, info)


def joined(folder: Path, info: Path | None = None) -> list[str]:
    """Return the lines of the output.csv of the responses below a folder."""
    table = join_downloaded(*read(folder, info))
    return [",".join(row) for row in (table.columns, *(row.values() for row in table.rows))]


def write_info(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_and_order_and_columns_are_those_of_info_csv(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=3, images__b=0, images__c=17)
    info = write_info(tmp_path / "info.csv", "ImageID,ans,note\nc.jpg,0,x\na.jpg,0,y\n")
    assert joined(folder, info) == ["ImageID,ans,note", "c.jpg,17,x", "a.jpg,3,y"]


def test_the_header_is_that_of_the_users_own_info_csv(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=3, images__b=0)
    info = write_info(tmp_path / "info.csv", "file,label\nb.jpg,\na.jpg,\n")
    assert joined(folder, info) == ["file,label", "b.jpg,0", "a.jpg,3"]


def test_names_are_those_of_the_responses_and_must_be_there(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", a=1, b=None)
    with pytest.raises(DataError, match=r"has no `label`, which --answers name needs; .*: a\.jpg$"):
        join_downloaded(*read(folder), "name")
    (folder / "a.jpg.out").write_text('{"prediction": 1, "label": "a dog"}')
    rows = join_downloaded(*read(folder), "name").rows
    assert rows == [{"ImageID": "a.jpg", "ans": "a dog"}, {"ImageID": "b.jpg", "ans": ""}]


def test_the_status_is_that_of_the_response_and_missing_without_one(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", a=1, b=2, c=3, d=None)
    (folder / "b.jpg.out").write_text('{"prediction": 2, "unsure": true}')
    (folder / "c.jpg.out").write_text('{"prediction": 3, "unsure": false}')
    (folder / "d.jpg.out").write_text('{"error": {"code": "empty", "message": "none"}, "prediction": null}')
    info = write_info(tmp_path / "info.csv", "ImageID\n" + "".join(f"{name}.jpg\n" for name in "abcde"))
    table = join_downloaded(*read(folder, info), status=True)
    assert table.columns == ("ImageID", "ans", "status")
    assert [tuple(row.values())[1:] for row in table.rows] == [
        ("1", "ok"),
        ("2", "unsure"),
        ("3", "ok"),
        ("", "empty"),
        ("", "missing"),
    ]


def test_without_info_csv_every_response_is_a_row_sorted_by_name(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", b=1, sub__a=2)
    assert joined(folder) == ["ImageID,ans", "b.jpg,1", "sub/a.jpg,2"]


def test_an_image_without_a_prediction_keeps_its_row_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_outputs(tmp_path / "out", a=None, b=4)
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\nb.jpg,0\nlost.jpg,0\n")
    assert joined(folder, info) == ["ImageID,ans", "a.jpg,", "b.jpg,4", "lost.jpg,"]
    assert capsys.readouterr().err == "2 of 3 images have no prediction: a.jpg, lost.jpg\n"


def test_the_response_to_info_csv_is_ignored_and_hides_no_image(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=3)
    (folder / "info.csv.out").write_text('{"error": {"code": "undecodable_image"}, "prediction": null}')
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n")
    assert joined(folder, info) == ["ImageID,ans", "a.jpg,3"]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"label": 3}', '{"prediction": [3]}'])
def test_a_response_of_another_image_is_rejected_by_name(tmp_path: Path, text: str) -> None:
    folder = write_outputs(tmp_path / "out", a=1)
    (folder / "a.jpg.out").write_text(text)
    with pytest.raises(DataError, match=r"not a response of this image, expected JSON with `prediction` .*a\.jpg\.out"):
        read(folder)


def test_a_wrong_info_csv_is_named(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", a=1)
    with pytest.raises(DataError, match=r"there is no none\.csv, expected columns ImageID"):
        read(folder, tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"info\.csv starts with ',b', expected ImageID"):
        read(folder, write_info(tmp_path / "info.csv", ",b\n1,2\n"))


# ImageIDs are relative to the folder that they are relative to on this machine


def test_an_image_beside_the_images_folder_hides_no_response(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_outputs(tmp_path / "out", images__a=1, images__b=1, cover=0)
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\nb.jpg,0\n")
    assert joined(folder, info) == ["ImageID,ans", "a.jpg,1", "b.jpg,1"]
    assert capsys.readouterr().err == "warning: 1 responses ignored (cover.jpg), not in info.csv\n"


def test_without_info_csv_images_are_named_from_the_folder_of_the_data(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", images__a=1, images__b=2)
    assert joined(folder) == ["ImageID,ans", "images/a.jpg,1", "images/b.jpg,2"]
    (folder / "info.csv.out").write_text('{"error": {"code": "undecodable_image"}, "prediction": null}')
    assert joined(folder) == ["ImageID,ans", "a.jpg,1", "b.jpg,2"]


def test_an_info_csv_that_names_none_of_the_objects_is_rejected(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", deep__a=1, deep__b=1)
    info = write_info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n")
    sentence = (
        r"info\.csv names none of the 2 objects of this job, it starts with 'a\.jpg' and the job has "
        r"'deep/a\.jpg, \.\.\.'; pass the info\.csv of the images of this job: "
    )
    with pytest.raises(DataError, match=sentence):
        read(folder, info)


def test_responses_without_a_single_prediction_are_rejected(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", a=None, b=None)
    with pytest.raises(DataError, match=r"none of the 2 images can be used: there is no such image: a\.jpg"):
        joined(folder)
    (folder / "info.csv.out").write_text("{}")
    for name in ("a", "b"):
        (folder / f"{name}.jpg.out").unlink()
    with pytest.raises(DataError, match="none of the 0 images can be used: there are no responses to images"):
        joined(folder)


# names


def test_info_csv_decides_which_objects_are_images_whatever_their_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_outputs(tmp_path / "out", c=3)
    for name in ("0012", "b7c1", "photo.jfif"):
        (folder / f"{name}.out").write_text('{"prediction": 5}')
    info = write_info(tmp_path / "info.csv", "ImageID\n0012\nb7c1\nphoto.jfif\nc.jpg\n")
    assert joined(folder, info) == ["ImageID,ans", "0012,5", "b7c1,5", "photo.jfif,5", "c.jpg,3"]
    assert capsys.readouterr().err == ""
    assert joined(folder) == ["ImageID,ans", "c.jpg,3"]
    assert capsys.readouterr().err == (
        "warning: 3 responses ignored (0012, b7c1, photo.jfif), "
        "not images by their ending; to use them, pass info.csv\n"
    )


def test_nfc_and_nfd_of_one_name_are_the_same_image(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path / "out", **{"images__cafe\u0301": 3})
    info = write_info(tmp_path / "info.csv", "ImageID\ncaf\u00e9.jpg\n")
    assert joined(folder, info) == ["ImageID,ans", "caf\u00e9.jpg,3"]
    write_outputs(folder, **{"images__caf\u00e9": 3})
    with pytest.raises(DataError, match="differ only in their Unicode form"):
        read(folder, info)


@pytest.mark.parametrize("name", ["x" * 246, "x" * 247, "\u00e9" * 127 + "x", "../a", "deep/" + "x" * 255, "/etc/a"])
def test_a_response_is_written_whatever_the_name_of_its_object(tmp_path: Path, name: str) -> None:
    outputs = OutputFolder(tmp_path / "out")
    with outputs.resume(tmp_path, [], "model") as (journal, _):
        outputs.write(journal, name, b"x", b'{"prediction": 3}')
    assert outputs.read(name) == {"prediction": 3}
    assert outputs.path(name).is_relative_to(tmp_path / "out")
    assert ".." not in outputs.path(name).parts
