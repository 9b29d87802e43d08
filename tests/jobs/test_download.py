"""The files of a job arrive where the next command reads them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from batch.results import Response
from data.predictions import LabelledPredictions, read_predictions
from jobs import download as download_module
from jobs.aws import AwsError
from jobs.download import download, find_scheme
from labels import MASKED_FACES
from runtime.errors import JobError
from support.fake_aws import ABSENT, FakeAws
from support.transform_outputs import write_outputs


def test_a_job_without_files_says_its_state(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="training job 'faces' has no model: InProgress"):
        download(FakeAws(DescribeTrainingJob={"TrainingJobStatus": "InProgress"}), "faces", tmp_path)
    with pytest.raises(JobError, match="tuning job 'faces' has no best training job yet"):
        download(FakeAws(DescribeHyperParameterTuningJob={}), "faces", tmp_path)
    with pytest.raises(JobError, match="endpoint 'faces' has no files"):
        download(FakeAws(DescribeEndpoint={}), "faces", tmp_path)


def test_a_transform_without_responses_says_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "fetch_folder", lambda aws, uri, folder: {})
    facts = {"TransformJobStatus": "InProgress", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    with pytest.raises(JobError, match="has no files yet: InProgress"):
        download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path)


@pytest.mark.parametrize(("missing", "sentence"), [("model", "has no model.tar.gz"), ("output", None)])
def test_a_model_is_required_and_outputs_are_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, sentence: str | None
) -> None:
    def fetch(aws: Any, uri: str, path: Path) -> None:
        if uri == f"s3://b/faces/output/{missing}.tar.gz":
            raise AwsError("not in S3", "404")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    monkeypatch.setattr(download_module, "fetch", fetch)
    monkeypatch.setattr(download_module, "extract", lambda archive, folder: [])
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


def test_responses_of_another_transform_in_the_same_folder_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_outputs(tmp_path / "answers", old=1)
    monkeypatch.setattr(
        download_module,
        "fetch_folder",
        lambda aws, uri, folder: {"new.jpg.out": write_outputs(folder, new=2) / "new.jpg.out"},
    )
    facts = {"TransformJobStatus": "Completed", "ModelName": "m", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path)
    assert output.read_text() == "ImageID,ans\nnew.jpg,2\n"


def test_a_transform_is_joined_with_the_users_header_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_folder(aws: Any, uri: str, folder: Path) -> dict[str, Path]:
        write_outputs(folder, a=2)
        (folder / "a.jpg.out").write_text(json.dumps({"prediction": 2, "label": MASKED_FACES.classes[2]}))
        return {"a.jpg.out": folder / "a.jpg.out"}

    monkeypatch.setattr(download_module, "fetch_folder", fetch_folder)
    facts = {"TransformJobStatus": "Completed", "ModelName": "m", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    info = tmp_path / "info.csv"
    info.write_text("file,kind\na.jpg,\n")
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path / "to", info, "name")
    assert output.read_text() == f'file,kind\na.jpg,"{MASKED_FACES.classes[2]}"\n'
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", tmp_path / "to", info, status=True)
    assert output.read_text() == "file,kind,status\na.jpg,2,ok\n"


# scheme.json

PETS = {"name": "pets", "classes": ["cat", "dog"], "tasks": []}
MODEL = {"PrimaryContainer": {"ModelDataUrl": "s3://b/model.tar.gz"}}


def keep_in_s3(monkeypatch: pytest.MonkeyPatch, description: dict[str, Any]) -> None:
    """Let S3 hold a model.tar.gz with this model.json, whatever is asked for."""

    def fetch(aws: Any, uri: str, path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            for name, data in (("./model.safetensors", b"0"), ("./model.json", json.dumps(description).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))

    monkeypatch.setattr(download_module, "fetch", fetch)


def labelled(label: str) -> list[Response]:
    return [{"prediction": 1, "label": label}, {"prediction": None}]


def test_a_transform_with_classes_of_your_own_can_be_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_folder(aws: Any, uri: str, folder: Path) -> dict[str, Path]:
        write_outputs(folder, a=1)
        (folder / "a.jpg.out").write_text(json.dumps({"prediction": 1, "label": "dog"}))
        return {"a.jpg.out": folder / "a.jpg.out"}

    keep_in_s3(monkeypatch, {"scheme": PETS})
    monkeypatch.setattr(download_module, "fetch_folder", fetch_folder)
    facts = {"TransformJobStatus": "Completed", "ModelName": "pets-1", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    download(FakeAws(DescribeTransformJob=facts, DescribeModel=MODEL), "pets", tmp_path)
    assert not (tmp_path / "model.tar.gz").exists()
    (tmp_path / "gt.csv").write_text("ImageID,ans\na.jpg,dog\n")
    found = read_predictions(tmp_path, tmp_path)
    assert isinstance(found, LabelledPredictions)
    assert found.matrix().tolist() == [[0, 0], [0, 1]]


def test_masked_faces_need_no_scheme(tmp_path: Path) -> None:
    aws = FakeAws()
    assert find_scheme(aws, "faces-1", labelled(MASKED_FACES.classes[1]), tmp_path) is None
    assert aws.asked == []


@pytest.mark.parametrize(
    ("found", "reason"), [(ABSENT, "Could not find it"), (MODEL, "model.json does not describe its classes")]
)
def test_a_model_without_a_description_of_its_classes_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: object, reason: str
) -> None:
    keep_in_s3(monkeypatch, {})
    assert find_scheme(FakeAws(DescribeModel=found), "pets-1", labelled("dog"), tmp_path) is None
    printed = capsys.readouterr().err
    assert "without it these classes cannot be evaluated" in printed
    assert reason in printed
