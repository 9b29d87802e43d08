"""A registered model carries its evaluation and waits for approval."""

import pytest

from jobs.common import JobLocation
from jobs.registry import RegistryOptions, model_package, model_package_group
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import LOCATION, LOCATIONS, DryRunCommand, checked


def test_an_evaluation_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--evaluation: required"):
        parse("submit.py", ("--model", "faces-1"), {}, RegistryOptions)


@pytest.mark.parametrize("location", LOCATIONS)
def test_aws_accepts_every_variant(location: JobLocation) -> None:
    options = RegistryOptions(model="faces-1", evaluation="s3://my-bucket/evaluation.json", approve=True)
    checked(model_package_group(location, options))
    assert checked(model_package(location, options, "image:tag"))["ModelApprovalStatus"] == "Approved"


def test_a_registered_model_carries_its_evaluation_and_waits_for_approval() -> None:
    options = RegistryOptions(model="faces-1", evaluation="faces-2")
    request = checked(model_package(LOCATION, options, "image:tag"))
    quality = request["ModelMetrics"]["ModelQuality"]["Statistics"]
    assert quality == {
        "ContentType": "application/json",
        "S3Uri": "s3://my-bucket/mask-classifier/evaluation/faces-2/evaluation.json",
    }
    (container,) = request["InferenceSpecification"]["Containers"]
    assert container["ModelDataUrl"] == "s3://my-bucket/mask-classifier/training/faces-1/output/model.tar.gz"
    assert request["ModelApprovalStatus"] == "PendingManualApproval"


def test_a_registration_shows_the_group_and_the_package(dry_run: DryRunCommand) -> None:
    requests, _ = dry_run("register", "--model", "faces-1", "--evaluation", "faces-2")
    assert list(requests) == ["CreateModelPackageGroup", "CreateModelPackage"]
