"""A job is found by its name alone, watched to its end, and its failure begins with the reason."""

from typing import Any

import pytest

from jobs import watch as job_watch
from jobs.aws import AwsError
from jobs.watch import JobFailed, find, stop, wait
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


def test_a_name_that_nothing_has_is_said() -> None:
    with pytest.raises(JobError, match="nothing is called 'faces' in eu-west-1"):
        find(FakeAws(), "faces")


def test_a_name_too_long_for_a_tuning_job_is_not_asked_of_one() -> None:
    aws = FakeAws(DescribeEndpoint={"EndpointStatus": "InService"})
    assert find(aws, "f" * 40).kind.noun == "Endpoint"
    assert "DescribeHyperParameterTuningJob" not in [operation for operation, _ in aws.asked]


def test_a_missing_permission_is_not_taken_for_a_missing_job() -> None:
    with pytest.raises(AwsError, match="may not"):
        find(FakeAws(DescribeTrainingJob=AwsError("these credentials may not", "AccessDenied")), "faces")


def test_the_line_tells_status_step_and_metrics() -> None:
    metrics = [{"MetricName": "val:f1", "Value": 0.71234}, {"MetricName": "epoch", "Value": 3.0}]
    facts = training("InProgress", "Training", "Training image download completed", FinalMetricDataList=metrics)
    line = find(FakeAws(DescribeTrainingJob=facts), "faces").line()
    assert line == "InProgress  Training: Training image download completed  val:f1=0.7123; epoch=3;"


def test_the_line_of_a_search_tells_how_many_and_the_best() -> None:
    best = {"FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "val:f1", "Value": 0.8}}
    facts = {
        "HyperParameterTuningJobStatus": "InProgress",
        "TrainingJobStatusCounters": {"Completed": 3, "InProgress": 2, "Stopped": 0},
        "BestTrainingJob": best,
    }
    line = find(FakeAws(DescribeHyperParameterTuningJob=facts), "faces").line()
    assert line == "InProgress  jobs Completed=3; jobs InProgress=2; best val:f1=0.8;"


def test_waiting_ends_with_the_job_and_says_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [training("InProgress", "Starting"), training("InProgress"), training("InProgress"), DONE]
    aws = FakeAws(DescribeTrainingJob=steps)
    assert wait(aws, "faces", 0).status == "Completed"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "InProgress  Starting",
        "InProgress  Training",
        "Completed  Completed",
    ]
    assert all(line.startswith("0:00:0") for line in lines)


def test_a_failed_job_begins_with_its_reason() -> None:
    reason = "AlgorithmError: ConfigError: unknown criterion 'focl', exit code: 2"
    aws = FakeAws(DescribeTrainingJob=training("Failed", "Failed", FailureReason=reason))
    with pytest.raises(JobFailed) as caught:
        wait(aws, "faces", 0)
    assert str(caught.value).startswith(reason)
    assert "`submit.py logs faces`" in str(caught.value)


def test_a_failed_evaluation_gives_its_exit_message() -> None:
    facts = {"ProcessingJobStatus": "Failed", "ExitMessage": "DataError: no gt.csv"}
    with pytest.raises(JobFailed, match=r"^DataError: no gt.csv; processing job"):
        wait(FakeAws(DescribeProcessingJob=facts), "faces", 0)


def test_an_endpoint_that_failed_says_how_to_remove_what_is_left() -> None:
    aws = FakeAws(DescribeEndpoint={"EndpointStatus": "Failed", "FailureReason": "no capacity"})
    with pytest.raises(JobFailed, match=r"^no capacity; .*`submit.py remove faces` removes what is left"):
        wait(aws, "faces", 0)


def test_a_stopped_job_says_why() -> None:
    aws = FakeAws(DescribeTrainingJob=training("Stopped", "MaxRuntimeExceeded"))
    with pytest.raises(JobFailed, match=r"before its end \(MaxRuntimeExceeded\).*--resume-from faces` goes on"):
        wait(aws, "faces", 0)


def test_a_network_that_is_away_for_a_while_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    away = AwsError("AWS cannot be reached", "unreachable")
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), away, away, DONE])
    assert wait(aws, "faces", 0).status == "Completed"
    assert capsys.readouterr().err.count("still waiting: AWS cannot be reached") == 2


def test_credentials_that_expire_end_the_waiting() -> None:
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), AwsError("expired", "ExpiredToken")])
    with pytest.raises(AwsError, match="expired"):
        wait(aws, "faces", 0)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(capsys: pytest.CaptureFixture[str]) -> None:
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        wait(aws, "faces", 0)
    assert "training job 'faces' goes on; `submit.py stop faces` ends it" in capsys.readouterr().err


def test_between_two_looks_it_sleeps_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(job_watch.time, "sleep", slept.append)
    wait(FakeAws(DescribeTrainingJob=[training("InProgress"), training("InProgress"), DONE]), "faces", 7.5)
    assert slept == [7.5, 7.5]


def test_a_running_job_is_asked_to_stop() -> None:
    aws = FakeAws(DescribeTrainingJob=training("InProgress"), StopTrainingJob={})
    stop(aws, "faces")
    assert aws.asked[-1] == ("StopTrainingJob", {"TrainingJobName": "faces"})


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"DescribeTrainingJob": DONE}, "training job 'faces' is over already: Completed"),
        ({"DescribeEndpoint": {"EndpointStatus": "InService"}}, "not stopped but removed: `submit.py remove faces`"),
    ],
)
def test_what_cannot_be_stopped_says_so(answers: dict[str, Any], sentence: str) -> None:
    aws = FakeAws(**answers)
    with pytest.raises(JobError, match=sentence):
        stop(aws, "faces")
    assert all(operation.startswith("Describe") for operation, _ in aws.asked)
