"""Where jobs run: required options are asked for, and the account follows from the role."""

import pytest

from jobs.account import SetupOptions
from jobs.common import Connection, JobLocation, JobName, SecureJobLocation
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import LOCATION

ENVIRON = {"SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/service-role/sagemaker", "SAGEMAKER_BUCKET": "my-bucket"}


def rejection(*flags: str, environ: dict[str, str] = ENVIRON, schema: type[object] = SecureJobLocation) -> str:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, environ, schema)
    return str(caught.value)


def test_role_and_bucket_come_from_the_environment() -> None:
    location, connection = parse("submit.py", [], ENVIRON | {"AWS_REGION": "eu-west-1"}, JobLocation, Connection)
    assert (location.account, connection.region) == ("123456789012", "eu-west-1")
    assert location.uri("data", "faces") == "s3://my-bucket/mask-classifier/data/faces"


def test_role_and_bucket_are_asked_for_together() -> None:
    sentence = rejection(environ={})
    assert "--role: required" in sentence
    assert "--bucket: required" in sentence
    assert "`submit.py setup` creates one" in sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--role", "sagemaker"], "'sagemaker' is not of the form arn:aws:iam::123456789012:role/name"),
        (["--bucket", "s3://b/c"], "is not the name of a bucket"),
        (["--prefix", "/faces/"], "--prefix: '/faces/' is not of the form"),
        (["--subnets", "subnet-1"], "a VPC needs both"),
        (["--security-groups", "sg-1"], "a VPC needs both"),
        (["--tags", "aws:x=1"], "--tags: 'aws:x' begins with aws:, which is reserved"),
        (["--tags", "team"], "--tags: 'team' is not of the form name=value"),
    ],
)
def test_a_malformed_option_is_named(flags: list[str], sentence: str) -> None:
    assert sentence in rejection(*flags)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--account", "42"], "--account: '42' is not a number of 12 digits"),
        (["--prefix", "/faces/"], "--prefix: '/faces/' is not of the form"),
        (["--repository", 'a"b'], "--repository: 'a\"b' is not the name of an ECR repository"),
        (["--data", "s3://bucket"], "--data: 's3://bucket' is not of the form s3://bucket/prefix"),
        (["--kms-key", "my-key"], "--kms-key: 'my-key' is not of the form arn:aws:kms:region:123456789012:key/id"),
    ],
)
def test_an_option_that_a_policy_cannot_contain_is_named(flags: list[str], sentence: str) -> None:
    assert sentence in rejection(*flags, schema=SetupOptions)


def test_the_name_of_a_job_is_asked_for() -> None:
    assert "the name of a job is required" in rejection(schema=JobName)
    assert "--job: 'my_job' must consist of letters, digits" in rejection("--job", "my_job", schema=JobName)


def test_the_files_of_a_job_follow_from_its_name() -> None:
    assert LOCATION.model("j-1") == "s3://my-bucket/mask-classifier/training/j-1/output/model.tar.gz"
    assert LOCATION.model("s3://b/model.tar.gz") == "s3://b/model.tar.gz"
    assert LOCATION.evaluation("j-1") == "s3://my-bucket/mask-classifier/evaluation/j-1/evaluation.json"
    assert LOCATION.evaluation("s3://b/evaluation.json") == "s3://b/evaluation.json"
    assert LOCATION.checkpoints("j-1") == "s3://my-bucket/mask-classifier/checkpoints/j-1/"
