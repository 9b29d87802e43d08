"""Where jobs run: needed flags are asked for, and the account follows from the role."""

import pytest

from jobs.common import Connection, JobPlace, Place, Setup, Submitted
from runtime.arguments import parse
from runtime.errors import ConfigError

ENVIRON = {"SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/service-role/sagemaker", "SAGEMAKER_BUCKET": "my-bucket"}


def refusal(*flags: str, environ: dict[str, str] = ENVIRON, schema: type = JobPlace) -> str:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, environ, schema)
    return str(caught.value)


def test_role_and_bucket_come_from_the_environment_once_and_for_all() -> None:
    place, connection = parse("submit.py", [], ENVIRON | {"AWS_REGION": "eu-west-1"}, Place, Connection)
    assert (place.account, place.partition, connection.region) == ("123456789012", "aws", "eu-west-1")
    assert place.uri("data", "faces") == "s3://my-bucket/mask-classifier/data/faces"


def test_role_and_bucket_are_asked_for_together() -> None:
    sentence = refusal(environ={})
    assert "--role: needed" in sentence
    assert "--bucket: needed" in sentence
    assert "`submit.py setup` makes one" in sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--role", "sagemaker"], "'sagemaker' is not of the form arn:aws:iam::123456789012:role/name"),
        (["--bucket", "s3://b/c"], "is not the name of a bucket"),
        (["--prefix", "/faces/"], "--prefix: '/faces/' is not of the form"),
        (["--subnets", "subnet-1"], "a VPC needs both"),
        (["--security-groups", "sg-1"], "a VPC needs both"),
        (["--tags", "team"], "--tags: 'team' is not of the form name=value"),
    ],
)
def test_what_cannot_be_meant_is_named(flags: list[str], sentence: str) -> None:
    assert sentence in refusal(*flags)


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
def test_what_a_policy_cannot_hold_is_named(flags: list[str], sentence: str) -> None:
    assert sentence in refusal(*flags, schema=Setup)


def test_the_name_of_a_job_is_asked_for() -> None:
    assert "a name is needed" in refusal(schema=Submitted)
