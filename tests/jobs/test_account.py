"""An account gets a bucket and a role that may do what jobs need, and nothing besides."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto import mock_aws

from jobs.account import SetupOptions, policies, setup
from jobs.aws import Aws, AwsError
from jobs.common import Connection
from support.fake_aws import FakeAws

OPTIONS = SetupOptions(bucket="my-bucket", account="123456789012")


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws(Connection(region="eu-west-1"))


def statements(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in document["Statement"]}


def test_bucket_and_role_are_created_and_the_submitters_policy_is_printed(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(aws, OPTIONS)
    printed = capsys.readouterr()
    assert aws.call("s3", "HeadBucket", Bucket="my-bucket")
    policy = aws.call("iam", "GetRolePolicy", RoleName="mask-classifier-sagemaker", PolicyName="sagemaker-job")
    assert policy["PolicyDocument"] == policies(OPTIONS, "123456789012", "eu-west-1")["execution_role"]
    assert json.loads(printed.out) == policies(OPTIONS, "123456789012", "eu-west-1")["submitter"]
    assert "export SAGEMAKER_ROLE=arn:aws:iam::123456789012:role/mask-classifier-sagemaker" in printed.err
    assert "export SAGEMAKER_BUCKET=my-bucket" in printed.err


def test_a_second_run_repairs_the_role_and_breaks_nothing(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, OPTIONS)
    setup(aws, replace(OPTIONS, prefix="other"))
    assert "exists already: CreateBucket" in capsys.readouterr().err
    policy = aws.call("iam", "GetRolePolicy", RoleName="mask-classifier-sagemaker", PolicyName="sagemaker-job")
    assert "arn:aws:s3:::my-bucket/other/*" in json.dumps(policy["PolicyDocument"])


def test_what_was_created_before_a_failure_is_named_with_the_command_that_removes_it() -> None:
    denied = AwsError("these credentials have no permission for `iam:PutRolePolicy`", "AccessDenied")
    with pytest.raises(AwsError) as caught:
        setup(FakeAws(otherwise={}, PutRolePolicy=denied), OPTIONS)
    assert str(caught.value) == (
        "these credentials have no permission for `iam:PutRolePolicy`; "
        "the new bucket remains, `aws s3 rb s3://my-bucket` removes it; "
        "the new role remains, `aws iam delete-role --role-name mask-classifier-sagemaker` removes it"
    )


def test_a_dry_run_prints_the_requests_and_sends_none(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, replace(OPTIONS, dry_run=True))
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["CreateBucket", "CreateRole", "PutRolePolicy", "submitter"]
    assert shown["CreateBucket"]["CreateBucketConfiguration"] == {"LocationConstraint": "eu-west-1"}
    assert aws.call("s3", "ListBuckets")["Buckets"] == []


def test_the_default_account_is_that_of_the_credentials(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, replace(OPTIONS, account=None))
    assert ":123456789012:role/" in capsys.readouterr().err


def test_the_first_region_takes_no_location(capsys: pytest.CaptureFixture[str]) -> None:
    with mock_aws():
        setup(Aws(Connection(region="us-east-1")), OPTIONS)
        setup(Aws(Connection(region="us-east-1")), replace(OPTIONS, dry_run=True))
    assert "LocationConstraint" not in capsys.readouterr().out


def test_jobs_reach_their_own_folder_and_repository_only() -> None:
    role = statements(policies(OPTIONS, "123456789012", "eu-west-1")["execution_role"])
    assert role["ReadAndWriteItsFolder"]["Resource"] == "arn:aws:s3:::my-bucket/mask-classifier/*"
    assert role["PullTheImage"]["Resource"] == "arn:aws:ecr:eu-west-1:123456789012:repository/mask-classifier"
    anywhere = {name for name, statement in role.items() if statement["Resource"] == "*"}
    assert anywhere == {"LogInToTheRegistry", "WriteItsMetrics"}  # these two know no resource


def test_a_submitter_may_pass_this_role_to_sagemaker_only() -> None:
    submitter = statements(policies(OPTIONS, "123456789012", "eu-west-1")["submitter"])
    passing = submitter["HandTheRoleToSageMaker"]
    assert passing["Resource"] == "arn:aws:iam::123456789012:role/mask-classifier-sagemaker"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_no_policy_allows_everything_of_a_service() -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    for document in policies(replace(OPTIONS, kms_key=key, vpc=True), "123456789012", "eu-west-1").values():
        for statement in document["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any("*" in action for action in actions)
            assert actions == sorted(actions)


def test_a_key_and_a_vpc_are_allowed_only_if_asked_for() -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/abc"
    plain = policies(OPTIONS, "123456789012", "eu-west-1")
    asked = policies(replace(OPTIONS, kms_key=key, vpc=True), "123456789012", "eu-west-1")
    assert set(plain) == set(asked) == {"trust", "execution_role", "submitter"}
    added = set(statements(asked["execution_role"])) - set(statements(plain["execution_role"]))
    assert added == {"UseTheKey", "EnterTheVpc"}
    assert statements(asked["submitter"])["UseTheKey"]["Resource"] == key


def test_data_outside_of_the_prefix_may_be_read_and_not_written() -> None:
    asked = policies(replace(OPTIONS, data="s3://photos/of/faces/"), "123456789012", "eu-west-1")
    role, submitter = statements(asked["execution_role"]), statements(asked["submitter"])
    assert role["ReadTheData"] == {
        "Sid": "ReadTheData",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::photos/of/faces/*",
    }
    assert role["ListTheData"]["Resource"] == submitter["ListTheData"]["Resource"] == "arn:aws:s3:::photos"
    assert "ReadTheData" not in statements(policies(OPTIONS, "123456789012", "eu-west-1")["execution_role"])


def test_other_partitions_have_their_own_names() -> None:
    assert "arn:aws-cn:s3:::my-bucket" in json.dumps(policies(OPTIONS, "123456789012", "cn-north-1"))
    assert "arn:aws-us-gov:s3:::my-bucket" in json.dumps(policies(OPTIONS, "123456789012", "us-gov-west-1"))
    assert "arn:aws-eusc:s3:::my-bucket" in json.dumps(policies(OPTIONS, "123456789012", "eusc-de-east-1"))


def test_a_region_that_s3s_description_does_not_know_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    aws = Aws(Connection(region="eusc-de-east-1"))
    setup(aws, replace(OPTIONS, account="123456789012", dry_run=True))
    bucket = json.loads(capsys.readouterr().out)["CreateBucket"]
    assert bucket["CreateBucketConfiguration"] == {"LocationConstraint": "eusc-de-east-1"}


def test_a_quote_stays_within_its_string() -> None:
    documents = policies(replace(OPTIONS, data='s3://photos/a"b'), "123456789012", "eu-west-1")
    role = statements(documents["execution_role"])
    assert role["ReadTheData"]["Resource"] == 'arn:aws:s3:::photos/a"b/*'
