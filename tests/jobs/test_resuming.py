"""A job goes on from the checkpoints of another only where its run would; that is known before it costs anything."""

from typing import Any

import pytest

from config import MAY_DIFFER, TrainConfig
from jobs.aws import AwsError
from jobs.common import Place
from jobs.resuming import check_resumable
from runtime.errors import JobError
from support.fake_aws import FakeAws

PLACE = Place(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket")
FOLDER = "s3://my-bucket/mask-classifier/checkpoints/faces-1/"
GIVEN = {"epochs": "30", "lr": "0.01"}


def described(folder: str = FOLDER, **hyperparameters: str) -> dict[str, Any]:
    return {"CheckpointConfig": {"S3Uri": folder}, "HyperParameters": hyperparameters or GIVEN}


def aws(job: Any, *running: str, status: str = "InProgress") -> FakeAws:
    def jobs(request: dict[str, Any]) -> dict[str, Any]:
        names = running if request["StatusEquals"] == status else ()
        return {"TrainingJobSummaries": [{"TrainingJobName": name} for name in names]}

    return FakeAws(ListTrainingJobs=jobs, DescribeTrainingJob=job)


def test_the_same_run_may_go_on() -> None:
    check_resumable(aws(described()), PLACE, "faces-1", GIVEN)
    check_resumable(aws(described()), PLACE, "faces-1", GIVEN | {"threads": "4", "on_bad_image": "skip"})
    check_resumable(aws(described()), PLACE, "faces-1", GIVEN | {"momentum": "0.9"})  # which is the default


def test_only_jobs_that_still_write_are_asked_about() -> None:
    asked = aws(described())
    check_resumable(asked, PLACE, "faces-1", GIVEN)
    statuses = [request["StatusEquals"] for operation, request in asked.asked if operation == "ListTrainingJobs"]
    assert statuses == ["InProgress", "Stopping"]
    check_resumable(aws({"HyperParameters": GIVEN}), PLACE, "faces-1", GIVEN)


def test_another_run_is_refused_and_told_apart() -> None:
    with pytest.raises(JobError, match=r"another run \(epochs was 30, is 40, head was joint, is factored\)"):
        check_resumable(aws(described()), PLACE, "faces-1", GIVEN | {"epochs": "40", "head": "factored"})
    check_resumable(aws(described()), PLACE, "faces-1", GIVEN | {"epochs": "40", "resume": "force"})


def test_a_job_that_went_on_from_another_one_names_it() -> None:
    first = FOLDER.replace("faces-1", "faces-0")
    with pytest.raises(JobError, match=f"went on from another job itself; name that one: {first}"):
        check_resumable(aws(described(first)), PLACE, "faces-1", GIVEN)


def test_two_jobs_never_write_to_the_same_checkpoints() -> None:
    with pytest.raises(JobError, match=r"'faces-2' still runs and writes to the same checkpoints; `submit.py stop"):
        check_resumable(aws(described(), "faces-2"), PLACE, "faces-1", GIVEN)
    with pytest.raises(JobError, match=r"'faces-1' still saves and writes to the same checkpoints; `submit.py wait"):
        check_resumable(aws(described(), "faces-1", status="Stopping"), PLACE, "faces-1", GIVEN)
    other = described(FOLDER.replace("faces-1", "faces-10"))
    check_resumable(aws([other, described()], "faces-10"), PLACE, "faces-1", GIVEN)


def test_a_job_that_sagemaker_has_forgotten_may_have_left_checkpoints() -> None:
    check_resumable(aws(AwsError("could not find it", "ValidationException")), PLACE, "faces-1", GIVEN)
    with pytest.raises(AwsError, match="may not"):
        check_resumable(aws(AwsError("may not", "AccessDenied")), PLACE, "faces-1", GIVEN)


@pytest.mark.parametrize("name", MAY_DIFFER)
def test_what_no_bit_depends_on_may_differ(name: str) -> None:
    default = getattr(TrainConfig, name)
    other = {"resume": "force", "on_bad_image": "skip"}.get(name, "other" if isinstance(default, str) else "1")
    check_resumable(aws(described()), PLACE, "faces-1", GIVEN | {name: other})
