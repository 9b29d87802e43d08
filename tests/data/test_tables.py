"""tables.py: rows are written as they were read, new columns go to the right rows, damaged tables are rejected."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.tables import Table, find_images, find_root, read_table, write_predictions
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from runtime.files import UnusableFile, replacing
from support.strange_files import KINDS, make_strange

PETS = LabelScheme("pets", ("cat", "dog"))


def info(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "info.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_that_are_not_replaced_are_written_as_they_were_read(tmp_path: Path) -> None:
    text = 'ImageID,ans,note\na.jpg,007,"a, ""b"""\nb.jpg,NA,\n한글.jpg,1.50,"two\nlines"\n'
    table = read_table(info(tmp_path, text))
    assert write_predictions(tmp_path, table, None).read_text() == text


def test_a_table_is_read_and_written_as_by_pandas(tmp_path: Path) -> None:
    path = info(tmp_path, 'ImageID,ans,note\na.jpg,007,"a, b"\nb.jpg,NA,\n')
    table, twin = read_table(path), pd.read_csv(path, dtype=str, keep_default_na=False)
    assert pd.DataFrame(table.rows, columns=list(table.columns)).equals(twin)
    probabilities = np.array([1 / 3, 1e-9], dtype=np.float32)
    twin = twin.assign(ans=pd.Series([17, None], dtype="Int64"), probability=probabilities)
    found = write_predictions(tmp_path, table.with_columns({"ans": [17, None], "probability": probabilities}), None)
    assert found.read_text() == twin.to_csv(index=False, lineterminator="\n")


def test_cells_may_be_missing_where_no_column_is_needed_and_spaces_are_kept(tmp_path: Path) -> None:
    table = read_table(info(tmp_path, "ImageID, ans,note\na.jpg\n b.jpg,, hello\n   \n\n"))
    assert table.columns == ("ImageID", "ans", "note")
    assert [tuple(row.values()) for row in table.rows] == [("a.jpg", "", ""), (" b.jpg", "", " hello")]
    with pytest.raises(DataError, match=r"^row 2 of info\.csv does not match the 3 columns"):
        read_table(tmp_path / "info.csv", "ans")


def test_a_column_needs_a_value_for_every_row() -> None:
    table = Table(("ImageID",), [{"ImageID": "a.jpg"}, {"ImageID": "b.jpg"}])
    with pytest.raises(ValueError, match="shorter"):
        table.with_columns({"ans": [1]})
    assert table.with_columns({"ans": [1, None]}).rows == [
        {"ImageID": "a.jpg", "ans": "1"},
        {"ImageID": "b.jpg", "ans": ""},
    ]
    assert table.columns == ("ImageID",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "info.csv starts with '', expected ImageID: {info}"),
        (",file,label\n0,a.jpg,0\n", "info.csv starts with ',file,label', expected ImageID: {info}"),
        ("ans,file\n0,a.jpg\n", "info.csv starts with 'ans,file', expected ImageID: {info}"),
        (
            "a.jpg,0\nb.jpg,1\n",
            "info.csv starts with the image 'a.jpg', expected a row of column names above it: {info}",
        ),
        ("ImageID;ans\na.jpg;\n", "info.csv starts with 'ImageID;ans', expected commas between its columns: {info}"),
        ("file\tlabel\na.jpg\t\n", "info.csv starts with 'file\\tlabel', expected commas between its columns: {info}"),
        ("ImageID,ans\n", "info.csv has no rows, expected one for each image: {info}"),
        ("ImageID,a,a\na.jpg,0,1\n", "info.csv starts with 'ImageID,a,a', expected each name once: {info}"),
        ("ImageID,ans\n \n,\n", "info.csv has no rows, expected one for each image: {info}"),
        ("ImageID,ans\na.jpg,0,1\n", "row 2 of info.csv does not match the 2 columns of its header: {info}"),
        ("ImageID,ans\n \n,0\n", "row 3 of info.csv does not match the 2 columns of its header: {info}"),
        ('ImageID\n"a.jpg"x\n', "info.csv cannot be read as csv in UTF-8 (',' expected after '\"'): {info}"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = info(tmp_path, text)
    with pytest.raises(DataError) as error:
        find_images(tmp_path)
    assert str(error.value) == sentence.format(info=path)


@pytest.mark.parametrize(
    ("header", "image", "answer", "written"),
    [
        ("ImageID,ans", "ImageID", "ans", "ImageID,ans"),
        ("file,label", "file", "label", "file,label"),
        ("id,id2,label", "id", "ans", "id,id2,label,ans"),
        ("file", "file", "ans", "file,ans"),
        ("file,status", "file", "ans", "file,status,ans"),  # --status would replace the predictions
        ("file,probability_1", "file", "ans", "file,probability_1,ans"),
        ("file,label,status", "file", "ans", "file,label,status,ans"),
        ("ans,ImageID", "ImageID", "ans", "ans,ImageID"),
        ("file,ans", "file", "ans", "file,ans"),
        ("ImageID,person", "ImageID", "ans", "ImageID,person,ans"),  # as in 0.1.0
    ],
)
def test_the_header_is_the_users_own(tmp_path: Path, header: str, image: str, answer: str, written: str) -> None:
    cells = ["a.jpg" if name == image else "0" for name in header.split(",")]
    table = read_table(info(tmp_path, f"{header}\n{','.join(cells)}\n"))
    assert (table.image, table.answer, table.names) == (image, answer, ["a.jpg"])
    found = write_predictions(tmp_path, table.with_columns({table.answer: [7]}), None).read_text().splitlines()
    assert found[0] == written
    row = dict(zip(found[0].split(","), found[1].split(","), strict=True))
    assert (row[image], row[answer]) == ("a.jpg", "7")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = info(tmp_path, "ImageID,note\na.jpg,x\n")
    assert read_table(path, "note", "ans").names == ["a.jpg"]
    with pytest.raises(DataError, match=r"starts with 'ImageID,note', expected ImageID and person or id"):
        read_table(path, "person", "id")
    with pytest.raises(DataError, match=r"there is no gt\.csv, expected columns ImageID and ans"):
        read_table(tmp_path / "gt.csv", "ans")
    with pytest.raises(DataError, match=r"cannot be read as csv in UTF-8"):
        read_table(info(tmp_path, b"\xff\xfe\x00"))


def test_images_are_beside_info_csv_or_in_its_images_folder(tmp_path: Path) -> None:
    info(tmp_path, "ImageID\nb.jpg\na.jpg\nb.jpg\n")
    assert find_images(tmp_path)[1] == [tmp_path / name for name in ("b.jpg", "a.jpg", "b.jpg")]
    (tmp_path / "images").mkdir()
    assert find_root(tmp_path) == tmp_path / "images"
    assert find_images(tmp_path)[1] == [tmp_path / "images" / name for name in ("b.jpg", "a.jpg", "b.jpg")]


def test_without_info_csv_every_visible_image_is_a_row(tmp_path: Path) -> None:
    for name in ("images/b.PNG", "images/a.jpg", "c.webp", ".hidden.jpg", ".trash/d.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table, files = find_images(tmp_path)
    assert table.names == ["c.webp", "images/a.jpg", "images/b.PNG"]
    assert files == [tmp_path / name for name in table.names]
    for path in files:
        path.unlink()
    with pytest.raises(DataError, match=r"no images to label, expected rows in info.csv or image files"):
        find_images(tmp_path)


def test_without_info_csv_other_files_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jpg", "b.svg", "b.heic", "b.jfif", "b.psd"):
        (tmp_path / name).write_bytes(b"x")
    table, _ = find_images(tmp_path)
    assert table.names == ["a.jpg"]
    assert capsys.readouterr().err == (
        "warning: other files ignored: 4 (b.heic, b.jfif, b.psd, b.svg), expected "
        ".jpg, .jpeg, .png, .ppm, .bmp, .webp, .gif, .tif, .tiff, .avif; to label files with other endings, "
        f"list them in info.csv: {tmp_path}\n"
    )


def test_info_csv_decides_which_files_are_images_whatever_their_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info(tmp_path, "ImageID\n0012\nb7c1\nphoto.jfif\n")
    (tmp_path / "c.jpg").write_bytes(b"x")
    assert find_images(tmp_path)[1] == [tmp_path / name for name in ("0012", "b7c1", "photo.jfif")]
    assert capsys.readouterr().err == ""


def test_images_below_a_link_to_a_folder_are_found_and_a_dangling_link_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(b"x")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "eval" / "gone.jpg").symlink_to("nowhere.jpg")
    assert find_images(tmp_path / "eval")[0].names == ["gone.jpg", "images/a.jpg"]


NFC, NFD = "caf\u00e9/\u00e9.jpg", "cafe\u0301/e\u0301.jpg"


@pytest.mark.parametrize(("on_disk", "in_table"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_an_image_id_names_a_file_in_any_unicode_form(tmp_path: Path, on_disk: str, in_table: str) -> None:
    info(tmp_path, f"ImageID\nlost\u00e9.jpg\n{in_table}\nb.jpg\n")
    (tmp_path / "images" / on_disk).parent.mkdir(parents=True)
    (tmp_path / "images" / on_disk).write_bytes(b"x")
    table, files = find_images(tmp_path)
    assert table.names == ["lost\u00e9.jpg", in_table, "b.jpg"]
    assert files == [tmp_path / "images" / name for name in ("lost\u00e9.jpg", on_disk, "b.jpg")]


@pytest.mark.parametrize("text", ["", f"ImageID\n{NFC}\n", f"ImageID\n{NFC}\n{NFD}\n"])
def test_two_images_whose_names_differ_only_in_their_unicode_form_are_rejected(tmp_path: Path, text: str) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    if text:
        info(tmp_path, text)
    with pytest.raises(DataError, match="differ only in their Unicode form, rename one of them"):
        find_images(tmp_path)


def test_a_name_that_is_not_utf_8_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"the name 'caf\\udce9\.jpg' is not UTF-8, rename the file or folder"):
        find_images(tmp_path)


@pytest.mark.parametrize("scheme", [None, MASKED_FACES])
def test_scheme_json_is_written_unless_the_classes_are_those_of_masked_faces(
    tmp_path: Path, scheme: LabelScheme | None
) -> None:
    table = Table(("ImageID", "ans"), [{"ImageID": "a.jpg", "ans": "1"}])
    write_predictions(tmp_path, table, PETS)
    assert LabelScheme.from_dict(json.loads((tmp_path / "scheme.json").read_text())) == PETS
    write_predictions(tmp_path, table, scheme)
    assert [path.name for path in tmp_path.iterdir()] == ["output.csv"]


@pytest.mark.parametrize(("before", "after"), [(None, PETS), (PETS, None), (PETS, LabelScheme("pets", ("ape", "cat")))])
def test_predictions_never_lie_beside_the_classes_of_others_wherever_writing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: LabelScheme | None, after: LabelScheme | None
) -> None:
    table = Table(("ImageID", "ans"), [{"ImageID": "a.jpg", "ans": "1"}])
    write_predictions(tmp_path, table, before)

    def interrupt(path: Path, *_: object) -> object:
        if path.name == "output.csv":
            raise KeyboardInterrupt
        return replacing(path)

    monkeypatch.setattr("data.tables.replacing", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path, table, before)
    assert (tmp_path / "output.csv").exists(), "those of the same classes stay"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path, table, after)
    assert not (tmp_path / "output.csv").exists()


def test_links_are_followed_and_litter_is_named_without_info_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("faces/1.jpg", "eval/@eaDir/1.jpg", "eval/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "eval/images").symlink_to(tmp_path / "faces")
    (tmp_path / "eval/images/back").symlink_to(tmp_path / "eval")
    (tmp_path / "eval/gone.jpg").symlink_to("nowhere.jpg")
    table, paths = find_images(tmp_path / "eval")
    assert table.names == ["2.jpg", "gone.jpg", "images/1.jpg"]
    assert paths[2].is_file()
    printed = capsys.readouterr().err
    assert "warning: litter of file systems and tools ignored: 1 (@eaDir); rename what belongs to the data" in printed
    assert "warning: links to a folder that contains them ignored: 1 (images/back); remove them" in printed


def test_a_broken_link_to_info_csv_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "info.csv").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"^info\.csv is a broken link, expected a file; repair or remove it: "):
        find_images(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "..", "a\0b.jpg"])
def test_a_row_that_leads_out_of_the_folder_is_rejected(tmp_path: Path, name: str) -> None:
    info(tmp_path, f"ImageID\na.jpg\n{name}\n")
    with pytest.raises(DataError, match=r"row 3 of info.csv has the ImageID .*: "):
        find_images(tmp_path)


def test_a_table_that_is_no_regular_file_or_too_large_is_one_sentence(tmp_path: Path) -> None:
    for kind in KINDS:
        path = make_strange(tmp_path / f"{kind}.csv", kind)
        with pytest.raises((DataError, UnusableFile), match=r"there is no|cannot be read|regular file|more than the"):
            read_table(path)
