"""A registered model carries its evaluation and waits for approval."""

import pytest

import submit
from jobs import registry
from jobs.aws import AwsError
from jobs.common import JobLocation
from jobs.registry import RegistryOptions, model_package, model_package_group
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.fake_aws import FakeAws
from support.job_requests import IMAGE, LOCATION, LOCATIONS, ROLE, DryRunCommand, checked


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


WORDS = ("--role", ROLE, "--bucket", "my-bucket", "--image", IMAGE, "--model", "faces-1", "--evaluation", "faces-2")


def test_a_registration_without_a_response_is_looked_up_in_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = FakeAws(otherwise={}, CreateModelPackage=AwsError("AWS did not respond", "unanswered"))
    monkeypatch.setattr(registry, "Aws", lambda connection: aws)
    command = "`aws sagemaker list-model-packages --model-package-group-name faces`"
    with pytest.raises(AwsError, match=f"see {command}, and stop or remove it if it exists"):
        submit.main(("register", *WORDS, "--group", "faces"), {})


def test_tags_that_a_group_cannot_get_any_more_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for tags, warning in (("team=vision", "warning: --tags is ignored: group 'mask-classifier' exists"), ("", "")):
        aws = FakeAws(otherwise={}, CreateModelPackage={"ModelPackageArn": "arn"})
        monkeypatch.setattr(registry, "Aws", lambda connection, aws=aws: aws)
        submit.main(("register", *WORDS, "--tags", tags), {})
        assert "CreateModelPackageGroup" not in aws.operations
        said = capsys.readouterr().err
        assert warning in said
        assert ("warning" in said) is bool(warning)
