"""An endpoint: on a driver that fits, undone piece by piece, and it says that it costs until it is removed."""

import pytest

from jobs.common import SecureJobLocation
from jobs.endpoint import EndpointOptions, endpoint
from runtime.arguments import parse
from runtime.errors import ConfigError
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
