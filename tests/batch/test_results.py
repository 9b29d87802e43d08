"""The answers of a batch transform become the output.csv and scheme.json that inference would have written."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from data.predictions import read_answers
from data.tables import Table, write_answers
from jobs import transform_results
from jobs.aws import AwsError
from jobs.transform_results import find_scheme, join
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from support.transform_answers import answers

PETS = {"name": "pets", "classes": ["cat", "dog"], "tasks": []}


def found(folder: Path) -> tuple[list[Path], Path]:
    return sorted(folder.rglob("*.out")), folder


def cells(table: Table) -> list[str]:
    return [",".join(row) for row in (table.columns, *(row.values() for row in table.rows))]


def info(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_and_order_and_columns_are_those_of_info_csv(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", images__a=3, images__b=0, images__c=17)
    table = info(tmp_path / "info.csv", "ImageID,ans,note\nc.jpg,0,x\na.jpg,0,y\n")
    assert cells(join(*found(folder), table)) == ["ImageID,ans,note", "c.jpg,17,x", "a.jpg,3,y"]


def test_without_info_csv_every_answer_is_a_row_sorted_by_name(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", b=1, sub__a=2)
    assert cells(join(*found(folder), None)) == ["ImageID,ans", "b.jpg,1", "sub/a.jpg,2"]


def test_an_image_without_an_answer_keeps_its_row_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = answers(tmp_path / "answers", a=None, b=4)
    table = info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\nb.jpg,0\nlost.jpg,0\n")
    assert cells(join(*found(folder), table)) == ["ImageID,ans", "a.jpg,", "b.jpg,4", "lost.jpg,"]
    assert capsys.readouterr().err == "2 of 3 images have no answer: a.jpg, lost.jpg\n"


def test_an_answer_to_info_csv_is_no_image_and_hides_no_other(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", images__a=3)
    (folder / "info.csv.out").write_text('{"error": {"code": "undecodable_image"}, "prediction": null}')
    table = info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n")
    assert cells(join(*found(folder), table)) == ["ImageID,ans", "a.jpg,3"]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"label": 3}'])
def test_what_is_no_answer_is_named(tmp_path: Path, text: str) -> None:
    folder = answers(tmp_path / "answers", a=1)
    (folder / "a.jpg.out").write_text(text)
    with pytest.raises(DataError, match=r"not an answer of this image, expected JSON with `prediction` .*a.jpg.out"):
        join(*found(folder), None)


def test_a_wrong_info_csv_is_named(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", a=1)
    with pytest.raises(DataError, match=r"there is no none\.csv, expected columns ImageID"):
        join(*found(folder), tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"info\.csv starts with 'a,b', expected ImageID"):
        join(*found(folder), info(tmp_path / "info.csv", "a,b\n1,2\n"))


# scheme.json


class FakeAws:
    """Knows one model, or none."""

    def __init__(self, model: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.model = model
        monkeypatch.setattr(transform_results, "fetch", self.fetch)

    def call(self, service: str, operation: str, **request: str) -> Any:
        self.asked.append(operation)
        if self.model is None:
            raise AwsError("could not find the model", "ValidationException")
        return {"PrimaryContainer": {"ModelDataUrl": "s3://b/model.tar.gz"}}

    def fetch(self, aws: Any, uri: str, path: Path) -> None:
        text = json.dumps(self.model).encode()
        with tarfile.open(path, "w:gz") as tar:
            for name, data in (("./model.safetensors", b"0"), ("./model.json", text)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def labelled(folder: Path, label: str) -> list[Path]:
    answers(folder / "answers", a=1)
    (folder / "answers/a.jpg.out").write_text(json.dumps({"prediction": 1, "label": label}))
    return sorted(folder.rglob("*.out"))


def test_classes_of_your_own_can_be_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = labelled(tmp_path, "dog")
    scheme = find_scheme(FakeAws({"scheme": PETS}, monkeypatch), "pets-1", found, tmp_path)
    assert scheme == LabelScheme.from_dict(PETS)
    write_answers(tmp_path, join(found, tmp_path / "answers", None), scheme)
    assert not (tmp_path / "model.tar.gz").exists()
    info(tmp_path / "gt.csv", "ImageID,ans\na.jpg,dog\n")
    assert read_answers(tmp_path, tmp_path).matrix().tolist() == [[0, 0], [0, 1]]


def test_masked_faces_need_no_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = FakeAws(None, monkeypatch)
    assert find_scheme(aws, "faces-1", labelled(tmp_path, MASKED_FACES.classes[1]), tmp_path) is None
    assert aws.asked == []


@pytest.mark.parametrize(
    ("model", "reason"), [(None, "could not find the model"), ({}, "the model does not say what its classes are")]
)
def test_a_model_that_does_not_say_what_its_classes_are_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: dict[str, Any] | None,
    reason: str,
) -> None:
    assert find_scheme(FakeAws(model, monkeypatch), "pets-1", labelled(tmp_path, "dog"), tmp_path) is None
    assert f"without it these classes cannot be evaluated: {reason}" in capsys.readouterr().err
