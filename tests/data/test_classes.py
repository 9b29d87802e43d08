"""classes.py: a class is read by name or number, and a number that may mean two classes is rejected."""

import json
from pathlib import Path

import pytest

from data.predictions import LabelledPredictions, read_predictions
from labels import LabelScheme
from runtime.errors import DataError
from support.prediction_tables import PredictionTables

PETS = LabelScheme("folders", ("cat", "dog", "fish"))


@pytest.fixture
def tables(tmp_path: Path) -> PredictionTables:
    return PredictionTables(tmp_path)


def read(tables: PredictionTables) -> LabelledPredictions:
    found = read_predictions(tables.gt_dir, tables.pred_dir)
    assert isinstance(found, LabelledPredictions)
    return found


def write_scheme(tables: PredictionTables, scheme: LabelScheme) -> None:
    (tables.pred_dir / "scheme.json").write_text(json.dumps(scheme.to_dict()))


@pytest.mark.parametrize("ground_truth", [["cat", "dog", "fish", "dog"], [0, 1, 2, 1]])
@pytest.mark.parametrize("predictions", [["cat", "dog", "dog", ""], [0, 1, 1, ""]])
def test_classes_of_another_scheme_are_names_or_numbers(
    tables: PredictionTables, ground_truth: list[str | int], predictions: list[str | int]
) -> None:
    tables.write(ground_truth, predictions)
    write_scheme(tables, PETS)
    labelled = read(tables)
    assert labelled.ground_truth.tolist() == [0, 1, 2, 1]
    assert labelled.predictions.tolist() == [0, 1, 1, 3]
    assert labelled.scheme == PETS


def test_a_class_folder_with_a_number_for_a_name_is_never_taken_for_another_class(tables: PredictionTables) -> None:
    names = tuple(sorted(str(number) for number in range(12)))  # 0, 1, 10, 11, 2, ...: "10" is class 2
    tables.write(names, range(12))
    write_scheme(tables, LabelScheme("folders", names))
    labelled = read(tables)
    assert labelled.ground_truth.tolist() == labelled.predictions.tolist() == list(range(12))


def write_folders(tables: PredictionTables, *names: str) -> None:
    """Describe the classes of class folders, in their order."""
    write_scheme(tables, LabelScheme("folders", tuple(sorted(names))))


ELEVEN = [f"{number:02}" for number in range(1, 12)]  # class folders 01 to 11


@pytest.mark.parametrize(
    ("folders", "ground_truth", "meanings"),
    [
        (ELEVEN, ["1", "2", "9"], "'1', which may mean class '01' or class number 1 ('02')"),
        (ELEVEN, ["10", "11", "1"], "'1', which may mean class '01' or class number 1 ('02')"),
        (["1", "2", "3"], ["1.0", "2.0"], "'1.0', which may mean class '1' or class number 1 ('2')"),
        (["2", "10"], ["10.0", "2"], "'10.0', which may mean class '10'"),
        (
            [str(number) for number in range(1, 12)],
            ["0", "2"],
            "'2', which may mean class '2' or class number 2 ('11')",
        ),
        (["1", "01"], ["1.0", "01"], "'1.0', which may mean class '01' or class '1' or class number 1 ('1')"),
    ],
)
def test_a_number_that_may_be_a_class_name_or_a_class_number_is_rejected(
    tables: PredictionTables, folders: list[str], ground_truth: list[str], meanings: str
) -> None:
    tables.write(ground_truth, [0] * len(ground_truth))
    write_folders(tables, *folders)
    with pytest.raises(DataError) as error:
        read(tables)
    assert str(error.value) == (
        f"column ans contains {meanings}, expected class names as they are in scheme.json; "
        f"format the column as text, or write other names: {tables.gt_csv}"
    )


@pytest.mark.parametrize(
    ("folders", "ground_truth", "classes"),
    [
        (ELEVEN, ["01", "09", "11"], [0, 8, 10]),
        (["0", "1", "2"], ["0.0", "2.0"], [0, 2]),
        (["00", "01", "02"], ["0", "2"], [0, 2]),
        (["2", "3"], ["0", "1"], [0, 1]),
        (["cat", "dog"], ["0.0", "1"], [0, 1]),
    ],
)
def test_a_number_that_has_one_meaning_is_read(
    tables: PredictionTables, folders: list[str], ground_truth: list[str], classes: list[int]
) -> None:
    tables.write(ground_truth, [0] * len(ground_truth))
    write_folders(tables, *folders)
    assert read(tables).ground_truth.tolist() == classes


def test_inference_writes_class_numbers_whatever_the_classes_are_called(tables: PredictionTables) -> None:
    tables.write(["01", "03", "10"], ["1", "2.0", "10"])
    write_folders(tables, *ELEVEN)
    assert read(tables).predictions.tolist() == [1, 2, 10]


def test_a_class_name_is_read_in_any_unicode_form(tables: PredictionTables) -> None:
    tables.write(["the\u0301", "caf\u00e9"], [1, 0])
    write_folders(tables, "cafe\u0301", "th\u00e9")
    assert read(tables).ground_truth.tolist() == [1, 0]
    write_folders(tables, "cafe\u0301", "caf\u00e9", "th\u00e9")
    with pytest.raises(
        DataError, match=r"'cafe\\u0301' and 'caf\\xe9' differ only in their Unicode form.*scheme\.json"
    ):
        read(tables)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "null", '{"name": "x"}', '{"name": "x", "classes": 3, "tasks": []}'),
        *(
            f'{{"name": "x", "classes": {classes}, "tasks": []}}'
            for classes in ("[0, 1]", '"ab"', '["a", null]', '["a"]')
        ),
        *(f'{{"name": "x", "classes": ["a", "b"], "tasks": {tasks}}}' for tasks in ("3", "[3]", '[{"name": "a"}]')),
    ],
)
def test_a_damaged_scheme_is_rejected(tables: PredictionTables, text: str) -> None:
    tables.write([0, 1], [0, 1])
    (tables.pred_dir / "scheme.json").write_text(text)
    expected = rf"scheme\.json is not a label scheme, expected the file that inference\.py .*: {tables.pred_dir}/"
    with pytest.raises(DataError, match=expected):
        read(tables)
