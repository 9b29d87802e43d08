"""Addresses of images and places in S3, and which machines have a GPU or a disk of their own."""

import pytest

from jobs.common import Place
from jobs.instances import evaluation_uri, given, has_gpu, has_local_disk, image_uri, model_uri, seconds
from jobs.limits import service_model

PLACE = Place(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket")


def test_the_image_is_in_the_registry_of_the_roles_account() -> None:
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert image_uri(PLACE, "eu-west-1", "abc") == f"{host}/mask-classifier:abc"
    assert image_uri(PLACE, "cn-north-1", "abc").split("/")[0].endswith(".amazonaws.com.cn")
    assert image_uri(PLACE, "eusc-de-east-1", "abc").split("/")[0].endswith(".eusc-de-east-1.amazonaws.eu")
    assert image_uri(Place(role=PLACE.role, bucket="b", image="other:1"), "eu-west-1", "abc") == "other:1"


def test_a_job_stands_for_what_it_left() -> None:
    assert model_uri(PLACE, "j-1") == "s3://my-bucket/mask-classifier/training/j-1/output/model.tar.gz"
    assert model_uri(PLACE, "s3://b/model.tar.gz") == "s3://b/model.tar.gz"
    assert evaluation_uri(PLACE, "j-1") == "s3://my-bucket/mask-classifier/evaluation/j-1/evaluation.json"
    assert evaluation_uri(PLACE, "s3://b/evaluation.json") == "s3://b/evaluation.json"


@pytest.mark.parametrize(
    ("machine", "gpu", "disk"),
    [
        ("ml.g4dn.xlarge", True, True),
        ("ml.g5.48xlarge", True, True),
        ("ml.p3.2xlarge", True, False),
        ("ml.p4d.24xlarge", True, True),
        ("ml.m5.large", False, False),
        ("ml.m5d.large", False, True),
        ("ml.r5d.xlarge", False, True),
        ("ml.m6i.large", False, False),
    ],
)
def test_machines_are_told_apart(machine: str, gpu: bool, disk: bool) -> None:
    assert (has_gpu(machine), has_local_disk(machine)) == (gpu, disk)


def test_every_machine_that_transforms_on_a_gpu_is_known_as_one() -> None:
    machines = service_model("sagemaker").shape_for("TransformInstanceType").enum
    assert {name.split(".")[1] for name in machines if has_gpu(name)} == {"p2", "p3", "g4dn", "g5", "g6", "g6e"}


def test_what_was_not_asked_for_is_left_out_but_false_and_zero_stay() -> None:
    assert given({"a": None, "b": [], "c": {}, "d": False, "e": 0, "f": ""}) == {"d": False, "e": 0, "f": ""}


def test_hours_become_whole_seconds() -> None:
    assert (seconds(1.5), seconds(1e-9)) == (5400, 1)
