"""An account gets a bucket and a role that may do what jobs need, and nothing besides."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto import mock_aws

from jobs.account import SetupOptions, policies, policy_name, setup
from jobs.aws import Aws, AwsError
from jobs.common import Connection
from runtime.errors import ConfigError
from support.fake_aws import FakeAws

ACCOUNT, ROLE = "123456789012", "mask-classifier-sagemaker"
OPTIONS = SetupOptions(bucket="my-bucket", account=ACCOUNT)
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/abc"


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws(Connection(region="eu-west-1"))


def inline_policies(aws: Aws) -> dict[str, dict[str, Any]]:
    """Return the inline policies of the role by their names."""
    names = aws.call("iam", "ListRolePolicies", RoleName=ROLE)["PolicyNames"]
    each = (aws.call("iam", "GetRolePolicy", RoleName=ROLE, PolicyName=name) for name in names)
    return {found["PolicyName"]: found["PolicyDocument"] for found in each}


def statements(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in document["Statement"]}


def test_bucket_and_role_are_created_and_the_submitters_policy_is_printed(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    setup(aws, OPTIONS)
    printed = capsys.readouterr()
    assert aws.call("s3", "HeadBucket", Bucket="my-bucket")
    (policy,) = inline_policies(aws).values()
    assert policy == policies(OPTIONS, "123456789012", "eu-west-1")["execution_role"]
    assert json.loads(printed.out) == policies(OPTIONS, "123456789012", "eu-west-1")["submitter"]
    assert "export SAGEMAKER_ROLE=arn:aws:iam::123456789012:role/mask-classifier-sagemaker" in printed.err
    assert "export SAGEMAKER_BUCKET=my-bucket" in printed.err


def test_a_second_run_repairs_the_role_and_breaks_nothing(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, OPTIONS)
    ((name, policy),) = inline_policies(aws).items()
    other = json.dumps(policies(replace(OPTIONS, vpc=True), ACCOUNT, "eu-west-1")["execution_role_with_vpc"])
    aws.call("iam", "PutRolePolicy", RoleName=ROLE, PolicyName=name, PolicyDocument=other)
    setup(aws, OPTIONS)
    assert "exists already: CreateBucket" in capsys.readouterr().err
    assert inline_policies(aws) == {name: policy}


LATER: tuple[dict[str, Any], ...] = (
    {"kms_key": KEY, "vpc": True},
    {"expiry": True},
    {"data": "s3://photos/of/faces"},
    {"data": "s3://photos/of/faces/"},
    {"data": "s3://photos/of/cats"},
    {"kms_key": KEY.replace("abc", "def")},
    {"prefix": "other"},
    {"repository": "other"},
    {"bucket": "other-bucket"},
)


def test_a_run_with_other_options_adds_permissions_and_takes_none_away(aws: Aws) -> None:
    legacy = json.dumps(policies(replace(OPTIONS, vpc=True), ACCOUNT, "eu-west-1")["execution_role_with_vpc"])
    setup(aws, OPTIONS)
    aws.call("iam", "PutRolePolicy", RoleName=ROLE, PolicyName="sagemaker-job", PolicyDocument=legacy)  # of 0.1.0
    for options in LATER:
        before = inline_policies(aws)
        setup(aws, replace(OPTIONS, **options))
        assert before.items() <= inline_policies(aws).items()
    setup(Aws(Connection(region="eu-west-3")), OPTIONS)
    found = inline_policies(aws)
    kinds = [re.sub(r"-[0-9a-f]{12}$", "", name).removeprefix("sagemaker-job") for name in found]
    assert sorted(kinds) == ["", "", "", "", "", "", "-data", "-data", "-kms", "-kms", "-vpc"]
    assert sum(len(json.dumps(document, separators=(",", ":"))) for document in found.values()) < 10_240


def test_the_policy_of_a_submitter_is_attached_beside_those_of_earlier_runs(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for options in ({}, *LATER):
        setup(aws, replace(OPTIONS, **options))
        printed = capsys.readouterr()
        assert len(json.dumps(json.loads(printed.out), separators=(",", ":"))) < 6_144  # of a managed policy
        (create,) = re.findall(r"aws iam create-policy --policy-name (\S+) --policy", printed.err)
        (attach,) = re.findall(r"attach-user-policy --user-name NAME --policy-arn (\S+)", printed.err)
        assert attach == f"arn:aws:iam::{ACCOUNT}:policy/{create}"
        names.append((json.loads(printed.out), create))
    assert all((one == other) == (name == same) for one, name in names for other, same in names)


def test_a_role_without_room_for_another_policy_says_which_commands_make_room() -> None:
    full = AwsError("Maximum policy size of 10240 bytes exceeded for role", "LimitExceeded", 409)
    there = AwsError("exists", "EntityAlreadyExists", 409)
    with pytest.raises(AwsError) as caught:
        setup(FakeAws(otherwise={}, CreateRole=there, PutRolePolicy=full), OPTIONS)
    name = policy_name("execution_role", OPTIONS, ACCOUNT, "eu-west-1")
    assert str(caught.value).startswith(
        f"role 'mask-classifier-sagemaker' has no room for the policy {name}, IAM allows 10,240 characters in all; "
        "`aws iam list-role-policies --role-name mask-classifier-sagemaker` lists its policies"
    )


def test_what_was_created_before_a_failure_is_named_with_the_command_that_removes_it() -> None:
    denied = AwsError("these credentials have no permission for `iam:PutRolePolicy`", "AccessDenied")
    with pytest.raises(AwsError) as caught:
        setup(FakeAws(otherwise={}, PutRolePolicy=denied), OPTIONS)
    assert str(caught.value) == (
        "these credentials have no permission for `iam:PutRolePolicy`; "
        "the new role remains, `aws iam delete-role --role-name mask-classifier-sagemaker` removes it; "
        "the new bucket remains, `aws s3 rb s3://my-bucket` removes it"
    )
    with pytest.raises(AwsError, match=f"role has a policy, .* {ROLE} --policy-name sagemaker-job-.* the new role re"):
        setup(FakeAws(otherwise={}, PutRolePolicy=[{}, denied]), replace(OPTIONS, vpc=True))
    there = AwsError("exists", "EntityAlreadyExists", 409)
    with pytest.raises(AwsError) as caught:
        setup(FakeAws(otherwise={}, CreateRole=there, PutRolePolicy=[{}, denied]), replace(OPTIONS, vpc=True))
    assert "delete-role" not in str(caught.value)  # nor the policies that it had before


def test_a_dry_run_prints_the_requests_and_sends_none(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, replace(OPTIONS, dry_run=True))
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["CreateBucket", "CreateRole", "PutRolePolicy", "submitter"]
    assert shown["CreateBucket"]["CreateBucketConfiguration"] == {"LocationConstraint": "eu-west-1"}
    setup(aws, replace(OPTIONS, dry_run=True, vpc=True, expiry=True))
    shown = json.loads(capsys.readouterr().out)
    put = [(request["RoleName"].removeprefix(ROLE), request["PolicyName"]) for request in shown["PutRolePolicy"]]
    names = [
        policy_name(document, OPTIONS, ACCOUNT, "eu-west-1")
        for document in ("execution_role", "execution_role_with_vpc", "expiry_role")
    ]
    assert put == list(zip(("", "", "-expiry"), names, strict=True))
    assert aws.call("s3", "ListBuckets")["Buckets"] == []


def test_the_default_account_is_that_of_the_credentials(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    setup(aws, replace(OPTIONS, account=None))
    assert ":123456789012:role/" in capsys.readouterr().err


def test_an_account_that_the_credentials_are_not_of_is_rejected_before_anything_is_created(aws: Aws) -> None:
    with pytest.raises(ConfigError, match=f"--account: 999999999999, but the credentials are of account {ACCOUNT}"):
        setup(aws, replace(OPTIONS, account="999999999999"))
    assert aws.call("s3", "ListBuckets")["Buckets"] == []


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
    for document in policies(replace(OPTIONS, kms_key=KEY, vpc=True), "123456789012", "eu-west-1").values():
        for statement in document["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any("*" in action for action in actions)
            assert actions == sorted(actions)


def test_a_key_and_a_vpc_are_allowed_only_if_asked_for() -> None:
    plain = policies(OPTIONS, "123456789012", "eu-west-1")
    asked = policies(replace(OPTIONS, kms_key=KEY, vpc=True), "123456789012", "eu-west-1")
    assert set(plain) == {"trust", "execution_role", "submitter"}
    assert set(asked) - set(plain) == {"execution_role_with_kms", "execution_role_with_vpc"}
    assert set(statements(asked["execution_role_with_kms"])) == {"UseTheKey"}
    assert set(statements(asked["execution_role_with_vpc"])) == {"EnterTheVpc"}
    assert statements(asked["submitter"])["UseTheKey"]["Resource"] == KEY


def test_data_outside_of_the_prefix_may_be_read_and_not_written() -> None:
    asked = policies(replace(OPTIONS, data="s3://photos/of/faces/"), "123456789012", "eu-west-1")
    role, submitter = statements(asked["execution_role_with_data"]), statements(asked["submitter"])
    assert role["ReadTheData"] == {
        "Sid": "ReadTheData",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::photos/of/faces/*",
    }
    assert role["ListTheData"]["Resource"] == submitter["ListTheData"]["Resource"] == "arn:aws:s3:::photos"
    assert "ReadTheData" not in json.dumps(policies(OPTIONS, "123456789012", "eu-west-1"))


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
    role = statements(documents["execution_role_with_data"])
    assert role["ReadTheData"]["Resource"] == 'arn:aws:s3:::photos/a"b/*'
