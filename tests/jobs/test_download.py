"""The files of a job arrive where the next command reads them."""

import errno
import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from batch.results import Response
from data.predictions import LabelledPredictions, read_predictions
from jobs import download as download_module
from jobs.aws import AwsError
from jobs.download import DownloadOptions, download, find_scheme
from labels import MASKED_FACES
from runtime.arguments import parse
from runtime.errors import ConfigError, JobError
from support.fake_aws import ABSENT, FakeAws, training
from support.transform_outputs import write_outputs


def to(folder: Path, **options: Any) -> DownloadOptions:
    return DownloadOptions(to=folder, **options)


def test_a_job_without_files_says_its_state(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="training job 'faces' has no model: InProgress"):
        download(FakeAws(DescribeTrainingJob={"TrainingJobStatus": "InProgress"}), "faces", to(tmp_path))
    with pytest.raises(JobError, match="tuning job 'faces' has no best training job yet"):
        download(FakeAws(DescribeHyperParameterTuningJob={}), "faces", to(tmp_path))
    with pytest.raises(JobError, match="endpoint 'faces' has no files"):
        download(FakeAws(DescribeEndpoint={}), "faces", to(tmp_path))


def test_a_transform_without_responses_says_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "fetch_folder", lambda aws, uri, folder: {})
    facts = {"TransformJobStatus": "Stopped", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    with pytest.raises(JobError, match="has no files yet: Stopped"):
        download(FakeAws(DescribeTransformJob=facts), "faces", to(tmp_path))


def test_a_job_that_has_not_ended_is_not_downloaded_as_if_it_were_complete(tmp_path: Path) -> None:
    for facts in (
        {"DescribeTransformJob": {"TransformJobStatus": "InProgress"}},
        {"DescribeProcessingJob": {"ProcessingJobStatus": "Stopping"}},
    ):
        with pytest.raises(JobError, match=r"'faces' has not ended: .*; `submit.py wait faces` waits for its files"):
            download(FakeAws(**facts), "faces", to(tmp_path))


def test_a_transform_that_failed_is_joined_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {"a.jpg.out": write_outputs(tmp_path, a=1) / "a.jpg.out"}
    monkeypatch.setattr(download_module, "fetch_folder", lambda aws, uri, folder: outputs)
    facts = {"TransformJobStatus": "Failed", "ModelName": "m", "TransformOutput": {"S3OutputPath": "s3://b/t"}}
    download(FakeAws(DescribeTransformJob=facts), "faces", to(tmp_path))
    assert "warning: transform job 'faces' is Failed, so files may be missing" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"info": Path("info.csv")}, {"answers": "name"}, {"status": True}])
def test_options_of_a_transform_are_rejected_for_another_job(tmp_path: Path, options: dict[str, Any]) -> None:
    (name,) = options
    for aws in (FakeAws(DescribeTrainingJob=training("Completed")), cars()):
        with pytest.raises(ConfigError, match=f"--{name}: only a transform job has predictions, not .*cars'"):
            download(aws, "cars", to(tmp_path, **options))


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
            download(aws, "faces", to(tmp_path))
    else:
        assert download(aws, "faces", to(tmp_path)) == [tmp_path / "model"]


def test_an_archive_that_cannot_be_unpacked_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(archive: Path, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    keep_in_s3(monkeypatch, {})
    monkeypatch.setattr(download_module, "extract", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        download(FakeAws(DescribeTrainingJob=fold(1, "Completed")), "faces", to(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_is_not_said_to_be_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(aws: Any, uri: str, path: Path) -> None:
        raise AwsError("the AWS credentials have expired", "ExpiredToken")

    monkeypatch.setattr(download_module, "fetch", fetch)
    with pytest.raises(AwsError, match=r"^the AWS credentials have expired$"):
        download(FakeAws(DescribeTrainingJob=fold(1, "Completed")), "faces", to(tmp_path))


def test_an_archive_of_the_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["model.tar.gz", "output.tar.gz"]
    for name in names:
        (tmp_path / name).write_text("mine")
    keep_in_s3(monkeypatch, {"scheme": PETS})
    job = fold(1, "Completed")
    download(FakeAws(DescribeTrainingJob=job), "faces", to(tmp_path))
    assert find_scheme(FakeAws(DescribeModel=MODEL), "pets-1", labelled("dog"), tmp_path) is not None
    assert [(tmp_path / name).read_text() for name in names] == ["mine", "mine"]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "output", *names}


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
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", to(tmp_path))
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
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", to(tmp_path / "to", info=info, answers="name"))
    assert output.read_text() == f'file,kind\na.jpg,"{MASKED_FACES.classes[2]}"\n'
    output, _ = download(FakeAws(DescribeTransformJob=facts), "faces", to(tmp_path / "to", info=info, status=True))
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
    download(FakeAws(DescribeTransformJob=facts, DescribeModel=MODEL), "pets", to(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"answers", "output.csv", "scheme.json"}
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


# ---- the folds of a cross-validation ----

CHECKPOINTS = "s3://b/mask-classifier/checkpoints"


def fold(number: int, status: str, checkpoints: str = "") -> dict[str, Any]:
    """Return the description of a training job of a fold of three."""
    folder = f"{CHECKPOINTS}/{checkpoints or f'cars-fold-{number}'}/"
    created = datetime(2026, 11, 24, number, tzinfo=UTC)
    return training(
        status,
        HyperParameters={"fold": f'"{number}/3"', "epochs": "30", "augmentation_args": '{"num_ops": 2}'},
        CheckpointConfig={"S3Uri": folder},
        CreationTime=created,
        ModelArtifacts={"S3ModelArtifacts": "s3://b/model.tar.gz"},
    )


def cars(**others: dict[str, Any] | None) -> FakeAws:
    """Return an AWS with a cross-validation whose second fold failed, and other training jobs, oldest first.

    None takes a job away.
    """
    first = {"cars-fold-1": fold(1, "Completed"), "cars-fold-2": fold(2, "Failed"), "cars-fold-3": fold(3, "Stopped")}
    given = first | {name.replace("_", "-"): facts for name, facts in others.items()}
    jobs = {name: facts for name, facts in given.items() if facts is not None}
    summaries = [
        {"TrainingJobName": name, "TrainingJobStatus": facts["TrainingJobStatus"], "CreationTime": hours}
        for hours, (name, facts) in enumerate(jobs.items())
    ]

    def describe(request: dict[str, Any]) -> dict[str, Any]:
        if request["TrainingJobName"] not in jobs:
            raise ABSENT
        return jobs[request["TrainingJobName"]]

    return FakeAws(DescribeTrainingJob=describe, ListTrainingJobs={"TrainingJobSummaries": summaries})


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Note the job that each fold is fetched from, instead of fetching and joining them."""
    noted: dict[str, str] = {}
    monkeypatch.setattr(
        download_module, "_fetch_training", lambda aws, job, folder: noted.update({folder.name: job.name})
    )
    monkeypatch.setattr("jobs.download.subprocess.run", lambda *words, **_: CompletedProcess(words, 0))
    return noted


def test_a_fold_is_that_of_the_newest_job_that_completed_it(
    fetched: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = cars(
        older=fold(2, "Completed", "cars-fold-2"),
        newer=fold(2, "Completed", "cars-fold-2"),
        failed=fold(2, "Failed", "cars-fold-2"),
        forced=fold(1, "Completed", "cars-fold-2"),
        bikes=fold(2, "Completed", "bikes-fold-2"),
    )
    download(aws, "cars", to(tmp_path))
    assert fetched == {"fold-1": "cars-fold-1", "fold-2": "newer", "fold-3": "cars-fold-3"}
    assert capsys.readouterr().err == "fold 2 of 'cars' is that of training job 'newer'\n"


def test_a_fold_without_a_job_is_named_until_another_one_trained_it(fetched: dict[str, str], tmp_path: Path) -> None:
    aws = cars(cars_fold_2=fold(2, "Completed"), cars_fold_3=None, new=fold(3, "Completed"))
    with pytest.raises(JobError, match=r"^fold 3 of 'cars' has no training job; .* -- --fold 3/3, and pass .* 3=JOB"):
        download(aws, "cars", to(tmp_path))
    download(aws, "cars", to(tmp_path, fold_jobs="3=new"))
    assert fetched == {"fold-1": "cars-fold-1", "fold-2": "cars-fold-2", "fold-3": "new"}


def test_other_jobs_are_looked_at_only_for_folds_that_did_not_complete(fetched: dict[str, str], tmp_path: Path) -> None:
    aws = cars(**{"cars_fold_2": fold(2, "Completed"), "cars_fold_3": fold(3, "Completed")})
    download(aws, "cars", to(tmp_path))
    assert "ListTrainingJobs" not in aws.operations


def test_a_fold_without_a_model_names_the_commands_that_train_it(fetched: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        download(cars(), "cars", to(tmp_path))
    assert str(caught.value) == (
        "fold 2 of 'cars' has no model: training job 'cars-fold-2' is Failed; `submit.py train --data DATA "
        "--resume-from cars-fold-2 -- --augmentation-args '{\"num_ops\": 2}' --epochs 30 --fold 2/3` resumes it; "
        "without a checkpoint, train it from scratch with -- --fold 2/3, and pass --fold-jobs 2=JOB"
    )
    assert fetched == {}
    resumed = cars(newer=fold(2, "InProgress", "cars-fold-2"))
    with pytest.raises(JobError, match=r"job 'newer' is InProgress; `submit.py wait cars` waits for it$"):
        download(resumed, "cars", to(tmp_path))


def test_a_fold_may_be_that_of_any_job_that_trained_it(fetched: dict[str, str], tmp_path: Path) -> None:
    aws = cars(fresh=fold(2, "Completed", "fresh"), third=fold(3, "Completed", "third"))
    download(aws, "cars", to(tmp_path, fold_jobs="2=fresh,3=third"))
    assert fetched == {"fold-1": "cars-fold-1", "fold-2": "fresh", "fold-3": "third"}
    for given, sentence in (
        ("2=third", "training job 'third' trained fold 3/3, expected 2/3; name one with -- --fold 2/3"),
        ("4=fresh", "'4' is not the number of a fold, expected 1 to 3"),
    ):
        with pytest.raises(ConfigError, match=f"--fold-jobs: {sentence}"):
            download(aws, "cars", to(tmp_path, fold_jobs=given))
    with pytest.raises(ConfigError, match="--fold-jobs: training job 'fresh' is not a cross-validation; leave it out"):
        download(aws, "fresh", to(tmp_path, fold_jobs="2=fresh"))
    with pytest.raises(ConfigError, match="--fold-jobs: 'fresh' is not of the form name=value"):
        parse("submit.py", ["--fold-jobs", "fresh"], {}, DownloadOptions)
