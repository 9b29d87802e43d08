"""Cross-validation on SageMaker: a training job for each fold; what cannot be divided is rejected before the upload."""

from collections.abc import Callable
from pathlib import Path

import pytest

import submit
from jobs import folds
from jobs.aws import AwsError
from jobs.job import fold_name
from runtime.errors import ConfigError, DataError
from support.drawing import draw_image
from support.fake_aws import FakeAws
from support.job_requests import IMAGE, ROLE, DryRunCommand
from support.several_labels import planted

DATA = ("--data", "s3://my-bucket/faces")


def test_each_fold_is_a_training_job_that_differs_in_nothing_but_the_fold(dry_run: DryRunCommand) -> None:
    words = ("--folds", "3", "--price-per-hour", "1", "--max-hours", "2", "--", "--epochs", "5")
    requests, printed = dry_run("cv", *DATA, *words)
    jobs = requests["CreateTrainingJob"]
    same = {"epochs": "5", "recipe": "scratch"}
    assert [job["HyperParameters"] for job in jobs] == [{**same, "fold": f"{number}/3"} for number in (1, 2, 3)]
    prefix = jobs[0]["TrainingJobName"].removesuffix("-fold-1")
    assert [job["TrainingJobName"] for job in jobs] == [fold_name(prefix, number) for number in (1, 2, 3)]
    checkpoints = [job["CheckpointConfig"]["S3Uri"] for job in jobs]
    assert checkpoints == [
        f"s3://my-bucket/mask-classifier/checkpoints/{prefix}-fold-{number}/" for number in (1, 2, 3)
    ]
    own = ("TrainingJobName", "HyperParameters", "CheckpointConfig")
    first, *others = ({key: value for key, value in job.items() if key not in own} for job in jobs)
    assert [first, first] == others
    (train,) = dry_run("train", *DATA, "--max-hours", "2", "--", "--epochs", "5", "--fold", "1/3")[0].values()
    assert first == {key: value for key, value in train.items() if key not in own}
    assert f"job      {prefix}-fold-1 to 3" in printed
    assert "runs on  3 x ml.g5.xlarge, spot" in printed
    assert "longest  3 jobs at once, each 2 h of training, at most 4 h with waiting" in printed
    assert "costs    at most 6.00 (6 instance hours at 1); spot costs less" in printed


@pytest.mark.parametrize("error", [AwsError("AWS did not respond", "unanswered"), KeyboardInterrupt()])
def test_a_fold_without_a_response_is_named_and_those_before_it_are_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    aws = FakeAws(otherwise={}, ListObjectsV2={"KeyCount": 1}, CreateTrainingJob=[{}, error])
    monkeypatch.setattr(folds, "Aws", lambda connection: aws)
    words = ("--role", ROLE, "--bucket", "my-bucket", "--image", IMAGE, *DATA, "--folds", "3")
    with pytest.raises((AwsError, KeyboardInterrupt)) as ended:
        submit.main(("cv", *words), {})
    first = next(request["TrainingJobName"] for name, request in aws.asked if name == "CreateTrainingJob")
    said = f"{ended.value}{capsys.readouterr().err}"
    assert f"see `submit.py status {first.removesuffix('1')}2`, and stop or remove it if it exists" in said
    assert f"CreateTrainingJob {first} was rolled back" in said
    assert aws.asked[-1] == ("StopTrainingJob", {"TrainingJobName": first})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--folds", "1"), "--folds: 1 is out of range"),
        (
            ("--resume-from", "faces-1"),
            "a fold is resumed by `submit.py train --resume-from NAME-fold-k ... -- --fold k/n`",
        ),
        (("--validation-data", "s3://b/c"), "--validation-data: cross-validation validates with the training images"),
        (("--name", "a-name-of-forty-letters-is-much-too-long"), "at most 39 characters"),
        (("--", "--fold", "1/5"), "--fold: every job gets its own"),
        (("--spot", "yes", "--", "--resume", "never"), "--resume never restarts a spot job from scratch"),
    ],
)
def test_what_contradicts_it_is_rejected(dry_run: DryRunCommand, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dry_run("cv", *DATA, *words)
    assert sentence in str(caught.value)


def test_local_data_that_cannot_be_divided_is_rejected(
    dry_run: DryRunCommand, faces: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--folds 5 is more than the 4 people or groups there are"):
        dry_run("cv", "--data", str(faces(4)))
    for part in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            draw_image(number, 0).save(tmp_path / "pets" / part / name / "1.jpg")
    with pytest.raises(DataError, match="the data comes with a split, and cross-validation makes its own"):
        dry_run("cv", "--data", str(tmp_path / "pets"), "--folds", "2")
    planted(tmp_path / "several", 4)
    with pytest.raises(ConfigError, match="cross-validation is for one label of each image, and these have several"):
        dry_run("cv", "--data", str(tmp_path / "several"), "--folds", "2")
