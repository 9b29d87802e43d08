"""A job is found by its name alone, described in one line, and asked to stop."""

from typing import Any

import pytest

from jobs.aws import AwsError
from jobs.common import Connection, JobName
from jobs.job import count_folds, find, find_all, stop, stop_command
from runtime.errors import JobError
from support.fake_aws import ABSENT, DONE, FakeAws, folds_of, training


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


def test_a_job_that_is_stopping_is_not_asked_again() -> None:
    aws = FakeAws(DescribeTrainingJob=training("Stopping"))
    assert [job.name for job in stop(aws, "faces")] == ["faces"]
    assert aws.operations == ["DescribeTrainingJob"]


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


# the folds of a cross-validation


RUNS = training("InProgress")


def test_the_name_of_a_cross_validation_stands_for_the_jobs_of_its_folds() -> None:
    steps = {f"faces-fold-{number}": [RUNS] for number in range(1, 13)}
    assert [job.name for job in find_all(folds_of("faces", steps), "faces")] == list(steps)
    assert [job.name for job in find_all(folds_of("faces", steps), "faces-fold-2")] == ["faces-fold-2"]
    with pytest.raises(JobError, match="no job or endpoint is called 'cars'"):
        find_all(folds_of("faces", steps), "cars")


def test_all_folds_that_run_are_asked_to_stop_even_if_one_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"faces-fold-1": [RUNS], "faces-fold-2": [DONE], "faces-fold-3": [RUNS]}
    aws = folds_of("faces", steps, StopTrainingJob={})
    monkeypatch.setattr("jobs.job.Aws", lambda connection: aws)
    stop_command(Connection(), JobName(job="faces"))
    assert [request for operation, request in aws.asked if operation == "StopTrainingJob"] == [
        {"TrainingJobName": "faces-fold-1"},
        {"TrainingJobName": "faces-fold-3"},
    ]
    assert [line.partition(" is stopping; ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "training job 'faces-fold-1'",
        "training job 'faces-fold-3'",
    ]
    aws = folds_of("faces", steps, StopTrainingJob=[AwsError("may not"), {}])
    with pytest.raises(AwsError, match=r"^may not$"):
        stop(aws, "faces")
    assert aws.operations.count("StopTrainingJob") == 2


def test_a_fold_without_a_job_does_not_keep_the_others_from_being_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    steps: dict[str, list[Any]] = {"faces-fold-1": [RUNS], "faces-fold-2": [ABSENT], "faces-fold-3": [RUNS]}
    aws = folds_of("faces", steps, StopTrainingJob={})
    assert [job.name for job in stop(aws, "faces")] == ["faces-fold-1", "faces-fold-3"]
    assert capsys.readouterr().err.startswith("fold 2 of 'faces' has no training job; start it with `submit.py train`")


def test_folds_that_have_all_ended_are_not_stopped() -> None:
    aws = folds_of("faces", {"faces-fold-1": [DONE], "faces-fold-2": [training("Stopped", "Stopped")]})
    with pytest.raises(JobError, match=r"fold-1' has already ended: Completed; .*fold-2' has already ended: Stopped"):
        stop(aws, "faces")


@pytest.mark.parametrize(("fold", "count"), [("1/5", 5), ('"1/12"', 12), ("", 0), ("1", 0)])
def test_the_number_of_folds_is_that_of_the_first_job(fold: str, count: int) -> None:
    described = training("Completed", HyperParameters={"fold": fold})
    assert count_folds(FakeAws(DescribeTrainingJob=described), "faces") == count
    assert count_folds(FakeAws(DescribeTrainingJob=described), "x" * 60) == 0
