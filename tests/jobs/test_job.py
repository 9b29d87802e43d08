"""A job is found by its name alone, described in one line, and asked to stop."""

from typing import Any

import pytest

from jobs.aws import AwsError
from jobs.job import find, stop
from runtime.errors import JobError
from support.fake_aws import DONE, FakeAws, training


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("TrainingJob", "training job 'faces'"),
        ("TransformJob", "transform job 'faces'"),
        ("ProcessingJob", "processing job 'faces'"),
        ("HyperParameterTuningJob", "tuning job 'faces'"),
        ("Endpoint", "endpoint 'faces'"),
    ],
)
def test_every_kind_of_job_is_found_by_its_name(kind: str, title: str) -> None:
    aws = FakeAws(**{f"Describe{kind}": {f"{kind}Status": "Failed"}})
    job = find(aws, "faces")
    assert (job.title, job.status, job.is_over) == (title, "Failed", True)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(JobError, match="no job or endpoint is called 'faces' in eu-west-1"):
        find(FakeAws(), "faces")


def test_a_name_too_long_for_a_tuning_job_is_not_asked_of_one() -> None:
    aws = FakeAws(DescribeEndpoint={"EndpointStatus": "InService"})
    assert find(aws, "f" * 40).kind.noun == "Endpoint"
    assert "DescribeHyperParameterTuningJob" not in aws.operations


def test_a_missing_permission_is_not_taken_for_a_missing_job() -> None:
    with pytest.raises(AwsError, match="may not"):
        find(FakeAws(DescribeTrainingJob=AwsError("these credentials may not", "AccessDenied")), "faces")


def test_the_line_shows_status_step_and_metrics() -> None:
    metrics = [{"MetricName": "val:f1", "Value": 0.71234}, {"MetricName": "epoch", "Value": 3.0}]
    facts = training("InProgress", "Training", "Training image download completed", FinalMetricDataList=metrics)
    line = find(FakeAws(DescribeTrainingJob=facts), "faces").line()
    assert line == "InProgress  Training: Training image download completed  val:f1=0.7123; epoch=3;"


def test_the_line_of_a_search_shows_how_many_and_the_best() -> None:
    best = {"FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "val:f1", "Value": 0.8}}
    facts = {
        "HyperParameterTuningJobStatus": "InProgress",
        "TrainingJobStatusCounters": {"Completed": 3, "InProgress": 2, "Stopped": 0},
        "BestTrainingJob": best,
    }
    line = find(FakeAws(DescribeHyperParameterTuningJob=facts), "faces").line()
    assert line == "InProgress  jobs Completed=3; jobs InProgress=2; best val:f1=0.8;"


def test_a_running_job_is_asked_to_stop() -> None:
    aws = FakeAws(DescribeTrainingJob=training("InProgress"), StopTrainingJob={})
    stop(aws, "faces")
    assert aws.asked[-1] == ("StopTrainingJob", {"TrainingJobName": "faces"})


@pytest.mark.parametrize(
    ("responses", "sentence"),
    [
        ({"DescribeTrainingJob": DONE}, "training job 'faces' has already ended: Completed"),
        ({"DescribeEndpoint": {"EndpointStatus": "InService"}}, "removed, not stopped: `submit.py remove faces`"),
    ],
)
def test_what_cannot_be_stopped_is_an_error(responses: dict[str, Any], sentence: str) -> None:
    aws = FakeAws(**responses)
    with pytest.raises(JobError, match=sentence):
        stop(aws, "faces")
    assert all(operation.startswith("Describe") for operation in aws.operations)
