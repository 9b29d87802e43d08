"""An endpoint that expires: one schedule, before the endpoint is created, with a role of its own."""

import json
from datetime import UTC, datetime

import pytest

from jobs.account import SetupOptions, policies
from jobs.aws import AwsError
from jobs.expiry import ExpiryOptions, find_end, remove_schedule, schedule
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION, ROLE, DryRunCommand, checked

MODEL = ("--model", "faces-1")


def test_aws_accepts_a_schedule_that_deletes_the_endpoint_once_and_then_itself() -> None:
    request = checked(schedule("e-1", LOCATION, datetime(2026, 11, 27, 8, 30, tzinfo=UTC), "eu-west-1"))
    assert request["ScheduleExpression"] == "at(2026-11-27T08:30:00)"
    assert request["ActionAfterCompletion"] == "DELETE"
    assert request["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
    assert json.loads(request["Target"]["Input"]) == {"EndpointName": "e-1"}
    assert request["Target"]["RoleArn"] == f"{ROLE}-expiry"


def test_the_schedule_is_created_before_the_endpoint_and_the_cost_ends_with_it(dry_run: DryRunCommand) -> None:
    words = ("--async", "--min", "0", "--max", "2", "--expires", "8h", "--price-per-hour", "1.5")
    requests, printed = dry_run("deploy", *MODEL, *words)
    assert list(requests)[2:4] == ["CreateSchedule", "CreateEndpoint"]
    end = requests["CreateSchedule"]["ScheduleExpression"]
    assert f"until {end[3:13]} {end[14:19]} UTC, when it is deleted, or `submit.py remove" in printed
    assert "costs    at most 24.00 (16 instance hours at 1.5)" in printed


@pytest.mark.parametrize(("text", "minutes"), [("15m", 15), ("8h", 480), ("7d", 10080)])
def test_a_time_is_a_number_of_minutes_hours_or_days(text: str, minutes: int) -> None:
    (options,) = parse("submit.py", ("--expires", text), {}, ExpiryOptions)
    assert options.after.total_seconds() == minutes * 60


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8", "'8' is not a time such as 30m, 8h or 7d"),
        ("8 hours", "'8 hours' is not a time"),
        ("14m", "14m is out of range, expected 15m to 365d"),
        ("366d", "366d is out of range"),
    ],
)
def test_anything_else_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse("submit.py", ("--expires", text), {}, ExpiryOptions)


def test_the_role_may_delete_endpoints_with_their_scaling_and_is_passed_to_the_scheduler_alone() -> None:
    asked = policies(SetupOptions(bucket="my-bucket", expiry=True), "123456789012", "eu-west-1")
    statement, scaling = asked["expiry_role"]["Statement"]
    assert statement["Action"] == "sagemaker:DeleteEndpoint"
    assert statement["Resource"] == "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/*"
    # SageMaker deregisters the scalable target of an endpoint with the permission of whoever deletes the endpoint
    assert scaling["Action"] == "application-autoscaling:DeregisterScalableTarget"
    assert scaling["Condition"] == {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
    assert asked["expiry_trust"]["Statement"][0]["Principal"] == {"Service": "scheduler.amazonaws.com"}
    (passing,) = [each for each in asked["submitter"]["Statement"] if each["Sid"] == "HandTheRoleToTheScheduler"]
    assert passing["Resource"] == "arn:aws:iam::123456789012:role/mask-classifier-sagemaker-expiry"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}


def test_without_the_permission_to_look_a_removal_goes_on_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    aws = FakeAws(GetSchedule=AwsError("no permission for `scheduler:GetSchedule`", "AccessDenied"))
    assert remove_schedule(aws, "e-1") == []
    assert "warning: whether a schedule deletes the endpoint is not known: no permission" in capsys.readouterr().err
    assert find_end(FakeAws(GetSchedule=AwsError("x", "ResourceNotFoundException")), "e-1") is None
