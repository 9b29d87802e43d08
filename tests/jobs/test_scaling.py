"""An asynchronous endpoint: what AWS accepts, what starts the first instance, what is undone and removed."""

import pytest

from jobs.aws import AwsError
from jobs.common import SecureJobLocation
from jobs.request_parts import Call
from jobs.scaling import AsyncOptions, async_config, remove_scaling, scaling
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION, LOCATIONS, SECURED, DryRunCommand, checked

MODEL = ("--model", "faces-1")


def calls(least: int = 0, most: int | None = None) -> dict[str, Call]:
    """Return the requests for an endpoint with one instance, by operation; of two policies the last."""
    return {call.operation: call for call in scaling("e-1", "eu-west-1", AsyncOptions(min_=least, max_=most), 1)}


@pytest.mark.parametrize("least", [0, 1])
def test_aws_accepts_every_request_and_every_undoing(least: int) -> None:
    for call in scaling("e-1", "eu-west-1", AsyncOptions(min_=least, max_=3), 1):
        checked(call)


def test_a_backlog_without_capacity_starts_the_first_instance() -> None:
    found = calls(0)
    step = found["PutScalingPolicy"].request
    assert step["PolicyType"] == "StepScaling"
    (adjustment,) = step["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert adjustment == {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
    alarm = found["PutMetricAlarm"]
    assert alarm.request["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm.request["Dimensions"] == [{"Name": "EndpointName", "Value": "e-1"}]
    assert alarm.complete
    assert alarm.complete({"PolicyARN": "arn:step"}) == {"AlarmActions": ["arn:step"]}


def test_an_endpoint_that_keeps_an_instance_needs_no_alarm() -> None:
    assert list(calls(1)) == ["RegisterScalableTarget", "PutScalingPolicy"]
    assert calls(1)["PutScalingPolicy"].request["PolicyType"] == "TargetTrackingScaling"
    assert scaling("e-1", "eu-west-1", AsyncOptions(async_=True), 1) == ()


@pytest.mark.parametrize(("most", "expected"), [(None, 1), (4, 4)])
def test_the_most_instances_are_those_of_the_start_if_nothing_is_given(most: int | None, expected: int) -> None:
    request = calls(0, most)["RegisterScalableTarget"].request
    assert (request["MinCapacity"], request["MaxCapacity"]) == (0, expected)


@pytest.mark.parametrize("location", LOCATIONS)
def test_responses_are_written_below_the_folder_of_the_job_and_encrypted(location: SecureJobLocation) -> None:
    output = async_config("e-1", location)["OutputConfig"]
    assert output["S3OutputPath"] == "s3://my-bucket/mask-classifier/async/e-1/responses"
    assert output.get("KmsKeyId") == location.kms_key
    assert "KmsKeyId" in async_config("e-1", SECURED)["OutputConfig"]
    assert "KmsKeyId" not in async_config("e-1", LOCATION)["OutputConfig"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--min", "0"), "--min: only an asynchronous endpoint changes its number of instances; pass --async"),
        (("--async", "--max", "2"), "--max: without --min the number of instances does not change; pass --min"),
    ],
)
def test_limits_of_what_does_not_scale_are_refused(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse("submit.py", words, {}, AsyncOptions)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--async", "--min", "2"), "--instance-count 1 is not between --min 2 and --max 1; change one of them"),
        (("--async", "--lite", "--serverless", "2048"), "a serverless endpoint has no queue; leave out --async or"),
    ],
)
def test_what_does_not_fit_the_endpoint_is_refused(
    dry_run: DryRunCommand, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dry_run("deploy", *MODEL, *words)


def test_a_dry_run_shows_every_request_and_an_example(dry_run: DryRunCommand) -> None:
    requests, printed = dry_run("deploy", *MODEL, "--async", "--min", "0", "--max", "2")
    assert list(requests) == [
        *("CreateModel", "CreateEndpointConfig", "CreateEndpoint"),
        *("RegisterScalableTarget", "PutScalingPolicy", "PutMetricAlarm"),
    ]
    assert [policy["PolicyName"] for policy in requests["PutScalingPolicy"]] == ["backlog", "first-instance"]
    name = requests["CreateEndpoint"]["EndpointName"]
    assert f"invoke-endpoint-async --endpoint-name {name} --content-type image/jpeg" in printed
    assert "scales   0 to 2 instances" in printed


def test_without_the_permission_to_look_what_may_remain_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    denied = AwsError("no permission for `application-autoscaling:DescribeScalingPolicies`", "AccessDenied")
    assert remove_scaling(FakeAws(otherwise=denied), "e-1") == []
    assert "what follows the endpoint's backlog is not removed: no permission" in capsys.readouterr().err
