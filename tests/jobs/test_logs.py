"""The log of a job is printed once, in order, to its very end."""

from typing import Any

import pytest

from jobs.aws import AwsError
from jobs.logs import follow_log
from runtime.errors import JobError
from support.fake_aws import DONE, FakeAws, folds_of, training


def log_of(*streams: str, lines: list[list[str]]) -> dict[str, Any]:
    """Return a CloudWatch with these streams; `lines` arrive in portions, a repeated token marks the end so far."""
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


def test_lines_of_several_hosts_name_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-1700000000", "faces/algo-2-1700000001", lines=[["hello"]])
    follow_log(FakeAws(DescribeTrainingJob=DONE, **log), "faces", 0)
    assert capsys.readouterr().out.splitlines() == ["[algo-1] hello", "[algo-2] hello"]


@pytest.mark.parametrize(
    ("streams", "hosts"),
    [
        (("faces/algo-1-1700000000", "faces/algo-2-1700000001"), ("algo-1", "algo-2")),
        (("faces/i-0abc-1700000000", "faces/i-0abc-1700000000/data-log"), ("i-0abc", "i-0abc/data-log")),
        (("faces/i-0abc-1700000000", "faces/i-0def-1700000000"), ("i-0abc", "i-0def")),
    ],
)
def test_hosts_have_different_names(
    streams: tuple[str, ...], hosts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    follow_log(FakeAws(DescribeTrainingJob=DONE, **log_of(*streams, lines=[["hello"]])), "faces", 0)
    assert capsys.readouterr().out.splitlines() == [f"[{host}] hello" for host in hosts]


def test_an_instance_of_an_endpoint_has_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("all/i-0aaa", "all/i-0bbb", lines=[["hello"]])
    follow_log(FakeAws(DescribeEndpoint={"EndpointStatus": "InService"}, **log), "faces", 0)
    assert capsys.readouterr().out.splitlines() == ["[all/i-0aaa] hello", "[all/i-0bbb] hello"]


def test_a_log_that_cannot_be_read_at_the_very_end_fails_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", lines=[["hello"]])
    log["DescribeLogStreams"] = [log["DescribeLogStreams"], AwsError("AWS throttles these requests", "Throttling")]
    assert follow_log(FakeAws(DescribeTrainingJob=DONE, **log), "faces", 0).status == "Completed"
    printed = capsys.readouterr()
    assert printed.out == "hello\n"
    assert (
        "the last lines are missing (AWS throttles these requests); `submit.py logs faces` prints them" in printed.err
    )


def test_a_log_that_does_not_exist_yet_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", lines=[["hello"]])
    log["DescribeLogStreams"] = [AwsError("no group", "ResourceNotFoundException"), log["DescribeLogStreams"]]
    follow_log(FakeAws(DescribeTrainingJob=[training("InProgress"), DONE], **log), "faces", 0)
    assert capsys.readouterr().out == "hello\n"


def test_reading_continues_when_the_network_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    log = log_of("faces/algo-1-17", lines=[["hello"]])
    log["DescribeLogStreams"] = [AwsError("AWS cannot be reached", "unreachable"), log["DescribeLogStreams"]]
    follow_log(FakeAws(DescribeTrainingJob=[training("InProgress"), DONE], **log), "faces", 0)
    printed = capsys.readouterr()
    assert printed.out == "hello\n"
    assert "still waiting: AWS cannot be reached" in printed.err


def test_a_missing_permission_for_the_log_is_an_error() -> None:
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
    with pytest.raises(JobError, match=r"has no log of its own; its training jobs have one, such as: faces-003-ab"):
        follow_log(FakeAws(DescribeHyperParameterTuningJob=facts), "faces", 0)


def test_a_cross_validation_has_a_log_for_each_fold() -> None:
    aws = folds_of("faces", {"faces-fold-1": [DONE], "faces-fold-2": [DONE]})
    with pytest.raises(JobError, match=r"the folds of 'faces' have a log each; give .* such as: faces-fold-1$"):
        follow_log(aws, "faces", 0)
