"""What a job left arrives where the next verb looks for it."""

from pathlib import Path
from typing import Any

import pytest

from jobs import download as job_results
from jobs.aws import AwsError
from jobs.download import download
from runtime.errors import JobError
from support.transform_answers import answers


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


def test_answers_of_another_transform_in_the_same_folder_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(tmp_path / "answers", old=1)
    monkeypatch.setattr(job_results, "fetch_folder", lambda aws, uri, folder: sorted(answers(folder, new=2).glob("n*")))
    facts = {"TransformJobStatus": "Completed", "ModelName": "m", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path)
    assert output.read_text() == "ImageID,ans\nnew.jpg,2\n"
