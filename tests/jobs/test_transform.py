"""Requests about a trained model: AWS's own description accepts each of them, and a GPU gets a driver that fits."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.common import JobPlace
from jobs.instances import Call
from jobs.job_options import Deployment, Registration, Transform
from jobs.limits import check_request
from jobs.transform import endpoint, model, model_package, model_package_group, transform_job

PLACE = JobPlace(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket")
GUARDED = replace(PLACE, kms_key="key-1", subnets="subnet-1", security_groups="sg-1,sg-2", tags="team=vision")
ARTIFACT = "s3://my-bucket/model.tar.gz"


def checked(call: Call) -> dict[str, Any]:
    """The request, which AWS would take, as well as the one that takes it back."""
    check_request("sagemaker", call.operation, call.request)
    if call.undo:
        check_request("sagemaker", *call.undo)
    return call.request


def transform(place: JobPlace = PLACE, **options: Any) -> dict[str, Any]:
    return checked(transform_job("t-1", place, Transform(**options), "s3://my-bucket/eval/"))


@pytest.mark.parametrize("place", [PLACE, GUARDED, replace(PLACE, network_isolation=False)])
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(place: JobPlace, instance_type: str) -> None:
    transform(place, instance_type=instance_type, environment="BAD_INPUT=row")
    checked(model("m-1", place, "image:tag", ARTIFACT, "A=1"))
    for call in endpoint("e-1", place, Deployment(instance_type=instance_type)):
        checked(call)
    options = Registration(model="faces-1", evaluation="s3://my-bucket/evaluation.json", approve=True)
    checked(model_package_group(place, options))
    checked(model_package(place, options, "image:tag"))


def test_a_gpu_machine_gets_a_driver_for_cuda_12_and_a_cpu_machine_none() -> None:
    resources = transform(instance_type="ml.g4dn.xlarge")["TransformResources"]
    assert resources["TransformAmiVersion"] == "al2-ami-sagemaker-batch-gpu-535"
    assert "TransformAmiVersion" not in transform(instance_type="ml.c5.xlarge")["TransformResources"]
    for instance_type, wanted in (("ml.g5.xlarge", True), ("ml.c5.xlarge", False)):
        config = checked(endpoint("e-1", PLACE, Deployment(instance_type=instance_type))[0])
        assert ("InferenceAmiVersion" in config["ProductionVariants"][0]) is wanted


def test_one_image_travels_in_one_request() -> None:
    request = transform(concurrency=50, max_payload_mb=2)
    assert request["BatchStrategy"] == "SingleRecord"
    assert request["TransformInput"]["SplitType"] == "None"
    assert (request["MaxConcurrentTransforms"], request["MaxPayloadInMB"]) == (50, 2)


def test_answers_are_encrypted() -> None:
    assert transform(GUARDED)["TransformOutput"]["KmsKeyId"] == "key-1"
    assert transform(GUARDED, instance_type="ml.m5.large")["TransformResources"]["VolumeKmsKeyId"] == "key-1"
    assert "VolumeKmsKeyId" not in transform(GUARDED, instance_type="ml.g5.xlarge")["TransformResources"]


def test_the_model_runs_without_network() -> None:
    assert checked(model("m-1", PLACE, "image:tag", ARTIFACT, ""))["EnableNetworkIsolation"] is True


def test_an_endpoint_is_taken_back_piece_by_piece() -> None:
    undo = [call.undo for call in endpoint("e-1", PLACE, Deployment())]
    assert undo == [
        ("DeleteEndpointConfig", {"EndpointConfigName": "e-1"}),
        ("DeleteEndpoint", {"EndpointName": "e-1"}),
    ]


def test_a_registered_model_carries_its_evaluation_and_waits_for_approval() -> None:
    request = checked(model_package(PLACE, Registration(model="faces-1", evaluation="faces-2"), "image:tag"))
    quality = request["ModelMetrics"]["ModelQuality"]["Statistics"]
    assert quality == {
        "ContentType": "application/json",
        "S3Uri": "s3://my-bucket/mask-classifier/evaluation/faces-2/evaluation.json",
    }
    (container,) = request["InferenceSpecification"]["Containers"]
    assert container["ModelDataUrl"] == "s3://my-bucket/mask-classifier/training/faces-1/output/model.tar.gz"
    assert request["ModelApprovalStatus"] == "PendingManualApproval"
