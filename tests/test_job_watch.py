"""A job is found by its name alone, watched to its end, and its failure begins with the reason."""

from typing import Any

import pytest

import job_watch
from aws import AwsError
from errors import JobError
from job_watch import JobFailed, find, follow_log, stop, wait

ABSENT = AwsError("AWS answered: Could not find it", "ValidationException")


class FakeAws:
    """Answers each operation from a list, the last answer for good, and notes what was asked."""

    region = "eu-west-1"

    def __init__(self, **answers: Any) -> None:
        self.answers = {name: list(given) if isinstance(given, list) else [given] for name, given in answers.items()}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, service: str, operation: str, **request: Any) -> Any:
        self.asked.append((operation, request))
        given = self.answers.get(operation, [ABSENT])
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer(request) if callable(answer) else answer

    def pages(self, service: str, operation: str, **request: Any) -> Any:
        yield self.call(service, operation, **request)


def training(status: str, step: str = "Training", message: str = "", **facts: Any) -> dict[str, Any]:
    steps = [{"Status": step, "StatusMessage": message}]
    return {"TrainingJobStatus": status, "SecondaryStatus": step, "SecondaryStatusTransitions": steps} | facts


DONE = training("Completed", "Completed")


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
    with pytest.raises(JobFailed, match=r"stopped before its end \(MaxRuntimeExceeded\)"):
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


def log_of(*streams: str, lines: list[list[str]]) -> dict[str, Any]:
    """CloudWatch with these streams, where `lines` come in by portions; a repeated token marks the end so far."""
    portions = {stream: [list(portion) for portion in lines] for stream in streams}

    def events(request: dict[str, Any]) -> dict[str, Any]:
        stream, at = request["logStreamName"], int(request.get("nextToken", 0))
        if at < len(portions[stream]):
            text = portions[stream][at]
            return {"events": [{"message": line} for line in text], "nextForwardToken": str(at + 1)}
        return {"events": [], "nextForwardToken": str(at)}

    names = [{"logStreamName": stream} for stream in streams]
    return {"DescribeLogStreams": {"logStreams": names}, "GetLogEvents": events}


def test_the_log_is_printed_once_in_order_to_its_very_end(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", lines=[["one", "two"], ["three"]])
    aws = FakeAws(DescribeTrainingJob=[training("InProgress"), DONE], **log)
    assert follow_log(aws, "faces", 0).status == "Completed"
    assert capsys.readouterr().out.splitlines() == ["one", "two", "three"]


def test_lines_of_several_hosts_say_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", "faces/algo-2-18", lines=[["hello"]])
    follow_log(FakeAws(DescribeTrainingJob=DONE, **log), "faces", 0)
    assert capsys.readouterr().out.splitlines() == ["[algo-1] hello", "[algo-2] hello"]


def test_a_log_that_does_not_exist_yet_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", lines=[["hello"]])
    log["DescribeLogStreams"] = [AwsError("no group", "ResourceNotFoundException"), log["DescribeLogStreams"]]
    follow_log(FakeAws(DescribeTrainingJob=[training("InProgress"), DONE], **log), "faces", 0)
    assert capsys.readouterr().out == "hello\n"


def test_a_log_that_may_not_be_read_is_said() -> None:
    aws = FakeAws(DescribeTrainingJob=DONE, DescribeLogStreams=AwsError("may not", "AccessDenied"))
    with pytest.raises(AwsError, match="may not"):
        follow_log(aws, "faces", 0)


def test_the_log_of_an_endpoint_is_in_its_own_group(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("all/i-0123456789", lines=[["GET /ping"]])
    aws = FakeAws(DescribeEndpoint={"EndpointStatus": "InService"}, **log)
    follow_log(aws, "faces", 0)
    assert capsys.readouterr().out == "GET /ping\n"
    assert ("DescribeLogStreams", {"logGroupName": "/aws/sagemaker/Endpoints/faces"}) in aws.asked


def test_a_search_has_no_log_but_its_jobs_have() -> None:
    facts = {"HyperParameterTuningJobStatus": "InProgress", "BestTrainingJob": {"TrainingJobName": "faces-003-ab"}}
    with pytest.raises(JobError, match=r"has no log of its own, its training jobs have, such as: faces-003-ab"):
        follow_log(FakeAws(DescribeHyperParameterTuningJob=facts), "faces", 0)


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
