"""An endpoint: on a driver that fits, undone piece by piece, and it says that it costs until it is removed."""

import pytest

from jobs import endpoint as endpoint_module
from jobs.aws import AwsError
from jobs.common import Connection, JobName, SecureJobLocation
from jobs.endpoint import EndpointOptions, endpoint, remove
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION, LOCATIONS, SECURED, TAGS, DryRunCommand, checked


def test_a_model_must_be_a_job_or_an_archive() -> None:
    with pytest.raises(ConfigError, match="neither the name of a training job nor"):
        parse("submit.py", ("--model", "s3://bucket/x.pth"), {}, EndpointOptions)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(location: SecureJobLocation, instance_type: str) -> None:
    for call in endpoint("e-1", location, EndpointOptions(instance_type=instance_type)):
        checked(call)


@pytest.mark.parametrize(("instance_type", "wanted"), [("ml.g5.xlarge", True), ("ml.c5.xlarge", False)])
def test_a_gpu_instance_gets_a_driver_for_cuda_12_and_a_cpu_instance_none(instance_type: str, wanted: bool) -> None:
    config = checked(endpoint("e-1", LOCATION, EndpointOptions(instance_type=instance_type))[0])
    assert ("InferenceAmiVersion" in config["ProductionVariants"][0]) is wanted


def test_a_driver_for_an_instance_without_a_gpu_is_rejected_and_any_other_is_taken(dry_run: DryRunCommand) -> None:
    words = ("--model", "faces-1", "--ami-version", "al2-ami-sagemaker-inference-gpu-2")
    requests, _ = dry_run("deploy", *words)
    (variant,) = requests["CreateEndpointConfig"]["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == words[-1]
    for command in (("deploy",), ("transform", "--data", "s3://my-bucket/faces")):
        with pytest.raises(ConfigError, match=r"--ami-version: ml\.c5\.xlarge has no GPU, whose driver it would set"):
            dry_run(*command, *words, "--lite")


def test_volumes_are_encrypted_where_the_instance_does_not_do_it_itself_and_tags_go_with_both_requests() -> None:
    config, created = endpoint("e-1", SECURED, EndpointOptions(instance_type="ml.m5.large"))
    assert config.request["KmsKeyId"] == SECURED.kms_key
    assert config.request["Tags"] == created.request["Tags"] == TAGS
    assert "KmsKeyId" not in endpoint("e-1", SECURED, EndpointOptions())[0].request


def test_an_endpoint_is_undone_piece_by_piece() -> None:
    assert [call.undo for call in endpoint("e-1", LOCATION, EndpointOptions())] == [
        ("DeleteEndpointConfig", {"EndpointConfigName": "e-1"}),
        ("DeleteEndpoint", {"EndpointName": "e-1"}),
    ]


def test_an_endpoint_says_that_it_costs_until_it_is_removed(dry_run: DryRunCommand) -> None:
    requests, printed = dry_run("deploy", "--model", "faces-1", "--price-per-hour", "1.5")
    assert list(requests) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert f"until it is removed: `submit.py remove {requests['CreateEndpoint']['EndpointName']}`" in printed
    assert "costs    1.5 per instance and hour, until the job has ended or the endpoint is removed" in printed


# ---- removal ----

IN_SERVICE = {"EndpointStatus": "InService"}
FOUND = {
    **{"DescribeEndpoint": IN_SERVICE, "DescribeEndpointConfig": {}, "DescribeModel": {}},
    **{"DescribeScalableTargets": {"ScalableTargets": [{}]}, "DescribeAlarms": {"MetricAlarms": [{}]}},
    **{"DescribeScalingPolicies": {"ScalingPolicies": [{"PolicyName": "backlog"}]}},
    "GetSchedule": {"ScheduleExpression": "at(2026-11-27T08:30:00)"},
}
GONE = AwsError("no scalable target is registered", "ObjectNotFoundException", 400)


def removed(monkeypatch: pytest.MonkeyPatch, **responses: object) -> list[str]:
    """Remove an endpoint that has everything; return the operations that changed something, in order."""
    aws = FakeAws(otherwise={}, **FOUND | responses)
    monkeypatch.setattr(endpoint_module, "Aws", lambda connection: aws)
    remove(Connection(), JobName(job="e-1"))
    return [name for name in aws.operations if name.startswith(("Delete", "Deregister"))]


def test_what_costs_is_removed_first_and_the_schedule_that_would_end_it_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = [
        *("DeleteEndpoint", "DeleteScalingPolicy", "DeregisterScalableTarget", "DeleteAlarms"),
        *("DeleteEndpointConfig", "DeleteModel", "DeleteSchedule"),
    ]
    assert removed(monkeypatch) == order
    faster = {"DeleteScalingPolicy": GONE, "DeregisterScalableTarget": GONE, "DeleteSchedule": GONE}
    assert removed(monkeypatch, **faster) == order  # SageMaker and the scheduler delete them, too
    assert removed(monkeypatch, DescribeEndpoint={"EndpointStatus": "Deleting"}) == order[1:]
    everything = "Endpoint, ScalingPolicy backlog, ScalableTarget, Alarm, EndpointConfig, Model, Schedule"
    assert capsys.readouterr().out == f"removed e-1: {everything}\n" * 3


@pytest.mark.parametrize(
    ("responses", "sentence"),
    [
        ({"DeleteEndpoint": AwsError("x", "Throttling")}, "x; nothing was removed; `submit.py remove e-1` tries again"),
        ({"DescribeEndpoint": AwsError("x", "AccessDenied")}, "x; nothing was removed; `submit.py remove e-1` tries"),
        ({"DeleteEndpoint": AwsError("x", "unanswered")}, "x; the endpoint may have been removed, and nothing else; "),
        (
            {"DeleteAlarms": AwsError("x", "AccessDenied")},
            "x; removed so far: Endpoint; `submit.py remove e-1` removes the rest",
        ),
    ],
)
def test_a_removal_that_breaks_off_says_what_is_removed_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, responses: dict[str, object], sentence: str
) -> None:
    with pytest.raises(AwsError) as caught:
        removed(monkeypatch, **responses)
    assert str(caught.value).startswith(sentence)
