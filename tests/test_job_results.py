"""What a job left arrives where the next verb looks for it."""

import json
from pathlib import Path
from typing import Any

import pytest

import job_results
from aws import AwsError
from errors import DataError, JobError
from job_results import download, write_output


def answers(folder: Path, **predictions: Any) -> Path:
    """Answers of a transform: NAME.out for each name."""
    for name, prediction in predictions.items():
        path = folder / f"{name.replace('__', '/')}.jpg.out"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prediction": prediction, "probability": 0.9}) + "\n")
    return folder


def found(folder: Path) -> tuple[list[Path], Path]:
    return sorted(folder.rglob("*.out")), folder


def info(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_and_order_and_columns_are_those_of_info_csv(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", images__a=3, images__b=0, images__c=17)
    table = info(tmp_path / "info.csv", "ImageID,ans,note\nc.jpg,0,x\na.jpg,0,y\n")
    output = write_output(*found(folder), table, tmp_path / "output.csv")
    assert output.read_text() == "ImageID,note,ans\nc.jpg,x,17\na.jpg,y,3\n"


def test_without_info_csv_every_answer_is_a_row_sorted_by_name(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", b=1, sub__a=2)
    output = write_output(*found(folder), None, tmp_path / "output.csv")
    assert output.read_text() == "ImageID,ans\nb.jpg,1\nsub/a.jpg,2\n"


def test_a_picture_without_an_answer_keeps_its_row_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = answers(tmp_path / "answers", a=None, b=4)
    table = info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\nb.jpg,0\nlost.jpg,0\n")
    output = write_output(*found(folder), table, tmp_path / "output.csv")
    assert output.read_text() == "ImageID,ans\na.jpg,\nb.jpg,4\nlost.jpg,\n"
    assert capsys.readouterr().err == "2 of 3 pictures have no answer: a.jpg, lost.jpg\n"


def test_an_answer_to_info_csv_is_no_picture_and_hides_no_other(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", images__a=3)
    (folder / "info.csv.out").write_text('{"error": {"code": "undecodable_image"}, "prediction": null}')
    table = info(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n")
    output = write_output(*found(folder), table, tmp_path / "output.csv")
    assert output.read_text() == "ImageID,ans\na.jpg,3\n"


def test_answers_of_another_transform_in_the_same_folder_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(tmp_path / "answers", old=1)
    monkeypatch.setattr(job_results, "fetch_folder", lambda aws, uri, folder: sorted(answers(folder, new=2).glob("n*")))
    facts = {"TransformJobStatus": "Completed", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path)
    assert output.read_text() == "ImageID,ans\nnew.jpg,2\n"


@pytest.mark.parametrize("text", ["not json", "[1]", '{"label": 3}'])
def test_what_is_no_answer_is_named(tmp_path: Path, text: str) -> None:
    folder = answers(tmp_path / "answers", a=1)
    (folder / "a.jpg.out").write_text(text)
    with pytest.raises(DataError, match=r"not an answer of this image, expected JSON with `prediction` .*a.jpg.out"):
        write_output(*found(folder), None, tmp_path / "output.csv")
    assert not (tmp_path / "output.csv").exists()


def test_a_wrong_info_csv_is_named(tmp_path: Path) -> None:
    folder = answers(tmp_path / "answers", a=1)
    with pytest.raises(DataError, match="--info does not exist"):
        write_output(*found(folder), tmp_path / "none.csv", tmp_path / "output.csv")
    with pytest.raises(DataError, match="--info has no column ImageID, its columns are a, b"):
        write_output(*found(folder), info(tmp_path / "info.csv", "a,b\n1,2\n"), tmp_path / "output.csv")


class FakeAws:
    """Describes what it is given and knows no other job."""

    region = "eu-west-1"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def call(self, service: str, operation: str, **request: Any) -> Any:
        if operation not in self.facts:
            raise AwsError("could not find", "ValidationException")
        return self.facts[operation]


def test_a_job_that_left_nothing_says_how_it_stands(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="training job 'faces' has left no model: InProgress"):
        download(FakeAws(DescribeTrainingJob={"TrainingJobStatus": "InProgress"}), "faces", tmp_path)
    with pytest.raises(JobError, match="tuning job 'faces' has no best training job yet"):
        download(FakeAws(DescribeHyperParameterTuningJob={}), "faces", tmp_path)
    with pytest.raises(JobError, match="endpoint 'faces' leaves no files"):
        download(FakeAws(DescribeEndpoint={}), "faces", tmp_path)


def test_a_transform_without_answers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_results, "fetch_folder", lambda aws, uri, folder: [])
    facts = {"TransformJobStatus": "InProgress", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    with pytest.raises(JobError, match="has left no files yet: InProgress"):
        download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path)


@pytest.mark.parametrize(("missing", "sentence"), [("model", "left no model.tar.gz"), ("output", None)])
def test_the_model_must_be_there_and_outputs_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, sentence: str | None
) -> None:
    def fetch(aws: Any, uri: str, path: Path) -> None:
        if uri == f"s3://b/faces/output/{missing}.tar.gz":
            raise AwsError("not in S3", "404")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    monkeypatch.setattr(job_results, "fetch", fetch)
    monkeypatch.setattr(job_results, "extract", lambda archive, folder: [])
    uri = "s3://b/faces/output/model.tar.gz"
    aws = FakeAws(
        DescribeHyperParameterTuningJob={"BestTrainingJob": {"TrainingJobName": "faces-1"}},
        DescribeTrainingJob={"TrainingJobStatus": "Completed", "ModelArtifacts": {"S3ModelArtifacts": uri}},
    )
    if sentence:
        with pytest.raises(AwsError, match=sentence):
            download(aws, "faces", tmp_path)
    else:
        assert download(aws, "faces", tmp_path) == [tmp_path / "model"]
