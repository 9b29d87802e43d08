"""predictions.py: rows are joined by id, classes are numbers or names, and a mistake in the tables is one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data.predictions import LabelledPredictions, read_predictions
from data.tables import read_table, write_predictions
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from support.prediction_tables import PredictionTables, image_name, write_table

CLASSES = MASKED_FACES.num_classes


@pytest.fixture
def tables(tmp_path: Path) -> PredictionTables:
    return PredictionTables(tmp_path)


def read(tables: PredictionTables, persons: str | None = None) -> LabelledPredictions:
    found = read_predictions(tables.gt_dir, tables.pred_dir, persons)
    assert isinstance(found, LabelledPredictions)
    return found


def count_persons(labelled: LabelledPredictions) -> int:
    assert labelled.persons is not None
    return len(set(labelled.persons.tolist()))


# Joining


def test_rows_are_joined_by_id_and_never_by_position(tables: PredictionTables) -> None:
    tables.write(range(CLASSES), range(CLASSES), seed=1)
    labelled = read(tables)
    assert labelled.ground_truth.tolist() == labelled.predictions.tolist() == list(range(CLASSES))
    assert labelled.persons is None


def test_columns_may_have_any_two_names(tables: PredictionTables) -> None:
    tables.write([0, 1, 2], [0, 1, 2], seed=1)
    for path, header in ((tables.gt_csv, "id,label"), (tables.output_csv, "file,class")):
        path.write_text(path.read_text().replace("ImageID,ans", header))
    labelled = read(tables)
    assert labelled.predictions.tolist() == labelled.ground_truth.tolist() == [0, 1, 2]
    assert labelled.persons is None  # `id` is the column of the images
    write_table(tables.gt_dir / "persons.csv", {image_name(index): 7 for index in range(3)}, "file,person")
    assert count_persons(read(tables)) == 1
    tables.output_csv.write_text(tables.output_csv.read_text().replace(",2", ",99"))
    with pytest.raises(DataError, match=r"^column class contains '99', expected only numbers"):
        read(tables)


@pytest.mark.parametrize("header", ["ImageID,ans", "file,label"])
def test_columns_that_inference_adds_hide_no_class(tables: PredictionTables, header: str) -> None:
    """output.csv of an info.csv with names of its own is read with the columns of --status and --save-probabilities."""
    scheme = LabelScheme("pets", ("cat", "dog"))
    tables.write([0, 1], [0, 1])
    table = read_table(write_table(tables.pred_dir / "info.csv", {image_name(index): "" for index in range(2)}, header))
    columns: dict[str, list[object]] = {
        table.answer: [0, 1],
        "status": ["ok", "unsure"],
        "probability_0": [0.75, 0.25],
        "probability_1": [0.25, 0.75],
    }
    write_predictions(tables.pred_dir, table.with_columns(columns), scheme)
    labelled = read(tables)
    assert labelled.predictions.tolist() == [0, 1]
    assert labelled.unsure is not None
    assert labelled.unsure.tolist() == [False, True]
    assert labelled.probabilities is not None
    assert labelled.probabilities.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_names_that_are_numbers_of_other_classes_are_read_as_they_were_written(tables: PredictionTables) -> None:
    scheme = LabelScheme("folders", ("1", "2", "0"))
    tables.write(["1", "2", "0"], ["1", "2", "0"])
    table = read_table(tables.output_csv)
    for answers, expected in (("name", [0, 1, 2]), ("index", [1, 2, 0])):
        write_predictions(tables.pred_dir, table, scheme, answers)
        labelled = read(tables)
        assert labelled.ground_truth.tolist() == [0, 1, 2]
        assert labelled.predictions.tolist() == expected


def test_an_empty_cell_is_no_prediction_and_is_counted_in_one_more_column(tables: PredictionTables) -> None:
    tables.write([0, 1, 1], [0, "", "1.0"])
    labelled = read(tables)
    assert labelled.without_prediction == 1
    assert labelled.matrix().shape == labelled.shape == (CLASSES, CLASSES + 1)
    assert labelled.matrix()[:2, [0, 1, CLASSES]].tolist() == [[1, 0, 0], [0, 1, 1]]
    assert labelled.matrix().sum() == 3


def test_an_image_counts_as_much_as_its_weight(tables: PredictionTables) -> None:
    tables.write([0, 1], [0, 0])
    labelled = read(tables)
    assert labelled.shape == (CLASSES, CLASSES)
    assert labelled.matrix(labelled.ground_truth * 2 + 3)[:2, 0].tolist() == [3, 5]


def test_tables_from_windows_and_excel_are_read(tables: PredictionTables) -> None:
    tables.write([0, 1, 2], [0, 1, 2])
    for path in (tables.gt_csv, tables.output_csv):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",", b", "))
    assert read(tables).predictions.tolist() == [0, 1, 2]


def test_further_columns_are_ignored(tables: PredictionTables) -> None:
    tables.write([0, 1], [0, 1])
    rows = {image_name(index): f"{index},read,0.5" for index in range(2)}
    write_table(tables.output_csv, rows, "ImageID,ans,status,probability")
    assert read(tables).predictions.tolist() == [0, 1]


def test_nfc_and_nfd_of_one_name_are_the_same_image(tables: PredictionTables) -> None:
    write_table(tables.gt_csv, {"caf\u00e9.jpg": 0, "b.jpg": 1})
    write_table(tables.output_csv, {"b.jpg": 1, "cafe\u0301.jpg": 2})
    write_table(tables.gt_dir / "persons.csv", {"cafe\u0301.jpg": "zoe\u0308", "b.jpg": "zo\u00eb"}, "ImageID,id")
    labelled = read(tables)
    assert labelled.predictions.tolist() == [2, 1]
    assert count_persons(labelled) == 1
    write_table(tables.output_csv, {"b.jpg": 1, "cafe\u0301.jpg": 2, "caf\u00e9.jpg": 2})
    with pytest.raises(DataError, match=r"output\.csv has several rows for 1 image \(caf\u00e9\.jpg\)"):
        read(tables)


# Persons


@pytest.mark.parametrize("column", ["id", "person"])
def test_persons_are_read_from_a_column_of_gt_csv(tables: PredictionTables, column: str) -> None:
    tables.write([0, 1, 2, 3], [0, 1, 2, 4])
    rows = {image_name(index): f"{index},{'ab'[index % 2]}" for index in range(4)}
    write_table(tables.gt_csv, rows, f"ImageID,ans,{column}")
    persons = read(tables).persons
    assert persons is not None
    assert persons.tolist() == [0, 1, 0, 1]


def test_a_given_persons_file_overrides_the_one_beside_gt_csv(tables: PredictionTables, tmp_path: Path) -> None:
    tables.write([0, 1, 2, 3], [0, 1, 2, 4])
    tables.write_persons(4, each=2)
    file = write_table(tmp_path / "who.csv", {image_name(index): index for index in range(4)}, "ImageID,person")
    assert count_persons(read(tables, str(file))) == 4
    assert count_persons(read(tables)) == 2


def number_rows(tables: PredictionTables, column: str) -> None:
    """Add a column with another value for each row to gt.csv."""
    write_table(tables.gt_csv, {image_name(index): f"{index},{index}" for index in range(4)}, f"ImageID,ans,{column}")


def test_persons_csv_has_priority_over_a_column_of_gt_csv(
    tables: PredictionTables, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.write([0, 1, 2, 3], [0, 1, 2, 4])
    number_rows(tables, "id")
    tables.write_persons(4, each=2)
    assert count_persons(read(tables)) == 2
    assert capsys.readouterr().err == (
        "warning: persons are those of persons.csv, the column 'id' of gt.csv is ignored\n"
    )


@pytest.mark.parametrize("column", ["id", "person"])
def test_a_column_of_gt_csv_that_numbers_the_rows_does_not_name_persons(
    tables: PredictionTables, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.write([0, 1, 2, 3], [0, 1, 2, 4])
    number_rows(tables, column)
    assert read(tables).persons is None
    assert capsys.readouterr().err == (
        f"warning: the column {column!r} has another value for each image, so it groups no images: {tables.gt_csv}\n"
    )


def test_a_persons_file_that_groups_no_images_is_used_with_a_warning(
    tables: PredictionTables, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.write([0, 1], [0, 1])
    tables.write_persons(2, each=1)
    assert count_persons(read(tables)) == 2
    assert "the column 'id' has another value for each image" in capsys.readouterr().err


def test_an_image_without_a_person_is_rejected(tables: PredictionTables) -> None:
    tables.write([0, 1, 2], [0, 1, 2])
    write_table(tables.gt_dir / "persons.csv", {image_name(0): "a", image_name(1): ""}, "ImageID,id")
    with pytest.raises(DataError, match=rf"has no person for 2 images \({image_name(1)}, {image_name(2)}\)"):
        read(tables)
    with pytest.raises(DataError, match=r"there is no who\.csv, expected columns ImageID and person or id"):
        read(tables, "who.csv")
    persons = {image_name(0): "a,7", image_name(1): ",8", image_name(2): "a,9"}
    write_table(tables.gt_dir / "persons.csv", persons, "ImageID,person,id")
    with pytest.raises(DataError, match=rf"has no person for 1 image \({image_name(1)}\)"):
        read(tables)


# Mistakes


THREE = {image_name(index): index for index in range(3)}
MIXTURE = {key: f'"{MASKED_FACES.classes[0]}"' if value else 0 for key, value in THREE.items()}
DAMAGE: dict[str, Callable[[PredictionTables], object]] = {
    "no gt.csv": lambda tables: tables.gt_csv.rename(tables.gt_dir / "truth.csv"),
    "no output.csv": lambda tables: tables.output_csv.rename(tables.pred_dir / "predictions.csv"),
    "empty folder": lambda tables: tables.gt_csv.unlink(),
    "empty file": lambda tables: tables.gt_csv.write_bytes(b""),
    "only a header": lambda tables: write_table(tables.output_csv, {}),
    "other columns": lambda tables: tables.output_csv.write_text("image,label,note\na.jpg,1,\n"),
    "no ans": lambda tables: write_table(tables.gt_csv, THREE, "ImageID,label"),
    "missing": lambda tables: write_table(tables.output_csv, {image_name(0): 0}),
    "unknown": lambda tables: write_table(tables.output_csv, THREE | {f"{n}.jpg": 0 for n in range(4)}),
    "twice": lambda tables: tables.output_csv.write_text("ImageID,ans\na.jpg,1\na.jpg,1\n"),
    "cut off": lambda tables: tables.output_csv.write_text("ImageID,ans\na.jpg,1\nb.j"),
    "too wide": lambda tables: tables.output_csv.write_text("ImageID,ans\na.jpg,1,2\n"),
    "no id": lambda tables: tables.output_csv.write_text("ImageID,ans\n,1\n"),
    "quotes": lambda tables: tables.output_csv.write_text('ImageID,ans\n"a.jpg"x,1\n'),
    "18": lambda tables: write_table(tables.output_csv, THREE | {image_name(2): 18}),
    "-1": lambda tables: write_table(tables.gt_csv, THREE | {image_name(2): -1}),
    "1.5": lambda tables: write_table(tables.gt_csv, THREE | {image_name(2): 1.5}),
    "no ground truth": lambda tables: write_table(tables.gt_csv, THREE | {image_name(2): ""}),
    "mixture": lambda tables: write_table(tables.gt_csv, MIXTURE),
}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no gt.csv", "there is no gt.csv, expected columns ImageID and ans: {gt}/gt.csv"),
        ("no output.csv", "there is no output.csv, expected columns ImageID and ans: {out}/output.csv"),
        ("empty folder", "SM_GROUND_TRUTH_DIR is empty, expected gt.csv: {gt}"),
        ("empty file", "gt.csv starts with '', expected ImageID and ans: {gt}/gt.csv"),
        ("only a header", "output.csv has no rows, expected one for each image: {out}/output.csv"),
        ("other columns", "output.csv starts with 'image,label,note', expected ImageID and ans: {out}/output.csv"),
        ("no ans", "gt.csv starts with 'ImageID,label', expected ImageID and ans: {gt}/gt.csv"),
        (
            "missing",
            f"output.csv has no row for 2 images ({image_name(1)}, {image_name(2)}), "
            "expected all images of gt.csv: {out}/output.csv",
        ),
        (
            "unknown",
            "output.csv has rows for 4 images (0.jpg, 1.jpg, 2.jpg, ...), "
            "expected only images of gt.csv: {out}/output.csv",
        ),
        ("twice", "output.csv has several rows for 1 image (a.jpg), expected one for each: {out}/output.csv"),
        ("cut off", "row 3 of output.csv does not match the 2 columns of its header: {out}/output.csv"),
        ("too wide", "row 2 of output.csv does not match the 2 columns of its header: {out}/output.csv"),
        ("no id", "row 2 of output.csv does not match the 2 columns of its header: {out}/output.csv"),
        ("quotes", "output.csv cannot be read as csv in UTF-8 (',' expected after '\"'): {out}/output.csv"),
        ("18", "column ans contains '18', expected only numbers from 0 to 17 or only class names: {out}/output.csv"),
        ("-1", "column ans contains '-1', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv"),
        ("1.5", "column ans contains '1.5', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv"),
        (
            "no ground truth",
            "column ans contains '', expected only numbers from 0 to 17 or only class names: {gt}/gt.csv",
        ),
        (
            "mixture",
            "column ans mixes class numbers and names, "
            "expected only numbers from 0 to 17 or only class names: {gt}/gt.csv",
        ),
    ],
)
def test_a_mistake_in_the_tables_is_one_sentence(tables: PredictionTables, name: str, sentence: str) -> None:
    tables.write([0, 1, 2], [0, 1, 2])
    DAMAGE[name](tables)
    with pytest.raises(DataError) as error:
        read(tables)
    assert str(error.value) == sentence.format(gt=tables.gt_dir, out=tables.pred_dir)


def test_a_file_that_is_not_text_is_rejected(tables: PredictionTables) -> None:
    tables.write([0, 1, 2], [0, 1, 2])
    tables.output_csv.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"output\.csv cannot be read as csv in UTF-8"):
        read(tables)
