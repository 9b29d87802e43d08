"""Nothing is sent that would fail; after a failure, everything is rolled back or named with its removal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import plan as plan_module
from jobs.aws import Aws, AwsError
from jobs.common import JobLocation, SubmitOptions
from jobs.plan import Plan, submit_job, submit_plan
from jobs.request_parts import Call
from jobs.s3 import Upload
from runtime.errors import ConfigError, JobError
from support.fake_aws import FakeAws, training

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mask-classifier:abc"
MODEL = Call("DescribeModel", {"ModelName": "faces-1"}, ("DeleteModel", {"ModelName": "faces-1"}))
ENDPOINT = Call("DescribeEndpoint", {"EndpointName": "faces-1"}, ("DeleteEndpoint", {"EndpointName": "faces-1"}))
PLAN = Plan(
    job="faces-1",
    location=JobLocation(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket"),
    image=IMAGE,
    calls=(MODEL, ENDPOINT),
    instances="1 x ml.g5.xlarge, spot",
)


def aws_with(**responses: Any) -> FakeAws:
    """Return an AWS that responds to everything, and as told to some operations."""
    return FakeAws(otherwise={}, **responses)


def rejection(plan: Plan = PLAN, **responses: Any) -> tuple[str, list[str]]:
    """Return the sentence, and the operations that were asked of AWS before."""
    aws = aws_with(**responses)
    with pytest.raises(JobError) as caught:
        submit_plan(aws, plan, dry_run=False)
    return str(caught.value), aws.operations


def test_everything_is_checked_first_and_then_sent_in_order() -> None:
    aws = aws_with()
    submit_plan(aws, replace(PLAN, needed_uris=("s3://my-bucket/model.tar.gz",)), dry_run=False)
    checks = ["GetCallerIdentity", "HeadBucket", "HeadObject", "DescribeImages"]
    assert aws.operations == [*checks, "DescribeModel", "DescribeEndpoint"]


def test_a_dry_run_asks_nothing_and_prints_the_exact_requests(capsys: pytest.CaptureFixture[str]) -> None:
    aws = aws_with()
    submit_plan(aws, PLAN, dry_run=True)
    printed = capsys.readouterr()
    assert aws.operations == []
    assert json.loads(printed.out) == {"DescribeModel": MODEL.request, "DescribeEndpoint": ENDPOINT.request}
    assert "runs on  1 x ml.g5.xlarge, spot" in printed.err


@pytest.mark.parametrize(
    ("changes", "price", "line"),
    [
        ({"instance_hours": 12.5}, 1.4, "costs    at most 17.50 (12.5 instance hours at 1.4); spot costs less"),
        ({"instance_hours": 2, "instances": "1 x m"}, 1.0, "costs    at most 2.00 (2 instance hours at 1)\n"),
        (
            {"instance_hours": None},
            1.4,
            "costs    1.4 per instance and hour, until the job has ended or the",
        ),
        ({"instance_hours": 12.5, "longest": "12 h"}, None, "longest  12 h\n"),
        ({"resumes": "from x"}, None, "resumes  from x\n"),
    ],
)
def test_the_maximum_cost_is_printed(
    changes: dict[str, Any], price: float | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    submit_plan(aws_with(), replace(PLAN, **changes), dry_run=True, price_per_hour=price)
    printed = capsys.readouterr().err
    assert line in printed
    assert ("costs" in printed) == (price is not None)


def test_a_request_that_aws_would_reject_is_never_sent() -> None:
    wrong = replace(PLAN, calls=(replace(MODEL, request={"ModelName": "a" * 64}),))
    sentence, asked = rejection(wrong)
    assert "ModelName has 64 characters" in sentence
    assert asked == []
    with pytest.raises(ConfigError):
        submit_plan(aws_with(), wrong, dry_run=True)


@pytest.mark.parametrize(
    ("responses", "sentence"),
    [
        ({"HeadBucket": AwsError("x", "404")}, "the bucket does not exist; `submit.py setup` creates it: my-bucket"),
        ({"HeadBucket": AwsError("no permission", "403")}, "no permission: s3://my-bucket"),
        (
            {"HeadBucket": {"BucketRegion": "us-east-1"}},
            "the bucket is in us-east-1 and the job would run in ",
        ),
        (
            {"HeadObject": AwsError("x", "404")},
            "that the job needs does not exist; `submit.py status` shows whether",
        ),
        ({"DescribeImages": AwsError("x", "ImageNotFoundException")}, f"push it with `submit.py push`: {IMAGE}"),
        ({"DescribeImages": AwsError("no permission", "AccessDenied")}, "no permission"),
    ],
)
def test_what_would_fail_minutes_later_is_reported_at_once(responses: dict[str, Any], sentence: str) -> None:
    message, asked = rejection(replace(PLAN, needed_uris=("s3://my-bucket/model.tar.gz",)), **responses)
    assert sentence in message
    assert "DescribeModel" not in asked


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        (
            {"KeyCount": 0},
            "there is no file in S3 under this name; `aws s3 ls` lists the files: s3://photos/faces/",
        ),
        (AwsError("the bucket is not in S3", "NoSuchBucket"), "the bucket is not in S3: s3://photos/faces/"),
        (AwsError("no permission", "AccessDenied"), None),  # the role may read what the user may not
        ({"KeyCount": 1}, None),
    ],
)
def test_data_that_is_not_uploaded_must_exist(response: Any, sentence: str | None) -> None:
    plan = replace(PLAN, needed_uris=("s3://photos/faces/",))
    if sentence:
        message, asked = rejection(plan, ListObjectsV2=response)
        assert message == sentence
        assert "DescribeModel" not in asked
    else:
        submit_plan(aws_with(ListObjectsV2=response), plan, dry_run=False)


def test_credentials_that_s3_rejects_without_a_reason_are_told_from_a_missing_permission() -> None:
    head, expired = AwsError("no permission", "403"), AwsError("the AWS credentials have expired", "ExpiredToken")
    message, _ = rejection(HeadBucket=head, GetCallerIdentity=expired)
    assert message == "the AWS credentials have expired"
    message, _ = rejection(HeadBucket=head, GetCallerIdentity=AwsError("AWS cannot be reached", "unreachable"))
    assert message == "no permission: s3://my-bucket"


def test_credentials_of_another_account_than_that_of_the_role_are_named_before_the_upload() -> None:
    message, asked = rejection(GetCallerIdentity={"Account": "999999999999"})
    assert "the credentials are of account 999999999999 and the --role is of account 123456789012" in message
    assert asked == ["GetCallerIdentity"]


def test_data_in_another_region_is_rejected_as_far_as_that_may_be_known() -> None:
    def head(request: dict[str, Any]) -> dict[str, Any]:
        if request["Bucket"] == "photos":
            return {"BucketRegion": "us-east-1"}
        if request["Bucket"] == "secret":
            raise AwsError("no permission", "403")
        return {"BucketRegion": "eu-west-1"}

    aws = aws_with(HeadBucket=head, ListObjectsV2={"KeyCount": 1})
    submit_plan(aws, replace(PLAN, needed_uris=("s3://secret/faces/", "s3://near/model.tar.gz")), dry_run=False)
    message, asked = rejection(
        replace(PLAN, needed_uris=("s3://photos/faces/",)), HeadBucket=head, ListObjectsV2={"KeyCount": 1}
    )
    assert message.startswith("the bucket is in us-east-1 and the job would run in eu-west-1; ")
    assert message.endswith(": photos")
    assert "DescribeModel" not in asked


def test_what_only_the_role_may_read_is_not_checked() -> None:
    plan = replace(PLAN, needed_uris=("s3://models/model.tar.gz",))
    submit_plan(aws_with(HeadObject=AwsError("no permission", "403")), plan, dry_run=False)
    message, _ = rejection(plan, HeadObject=AwsError("x", "404"))
    assert "a file that the job needs does not exist" in message
    plan = replace(PLAN, image=IMAGE.replace("123456789012", "999999999999"))
    submit_plan(aws_with(DescribeImages=AwsError("no permission", "AccessDeniedException")), plan, dry_run=False)
    message, _ = rejection(plan, DescribeImages=AwsError("x", "ImageNotFoundException"))
    assert "the image is not in the registry" in message


def test_an_image_of_another_region_is_rejected_and_one_of_another_registry_not_checked() -> None:
    sentence, _ = rejection(replace(PLAN, image=IMAGE.replace("eu-west-1", "us-east-1")))
    assert "the image is in us-east-1 and the job would run in eu-west-1" in sentence
    aws = aws_with()
    submit_plan(aws, replace(PLAN, image="registry.example.org/faces:1"), dry_run=False)
    assert "DescribeImages" not in aws.operations


def test_an_image_may_be_named_by_its_digest() -> None:
    aws = aws_with()
    submit_plan(aws, replace(PLAN, image=f"{IMAGE.split(':')[0]}@sha256:{'0' * 64}"), dry_run=False)
    assert "DescribeImages" in aws.operations


def test_a_failure_half_way_is_rolled_back() -> None:
    message, asked = rejection(DescribeEndpoint=AwsError("quota is used up", "ResourceLimitExceeded"))
    assert message == "quota is used up; DescribeModel faces-1 was rolled back"
    assert asked[-1] == "DeleteModel"


def test_what_cannot_be_rolled_back_is_named_with_the_command_that_removes_it() -> None:
    message, _ = rejection(DescribeEndpoint=AwsError("no", "X"), DeleteModel=AwsError("no permission", "AccessDenied"))
    by_hand = "`aws sagemaker delete-model --model-name faces-1` removes it (no permission)"
    assert f"DescribeModel faces-1 remains: {by_hand}" in message


def test_a_request_without_a_response_may_have_succeeded_so_nothing_is_rolled_back() -> None:
    message, asked = rejection(DescribeEndpoint=AwsError("AWS did not respond", "unanswered"))
    assert "see `submit.py status faces-1`, and stop or remove it if it exists" in message
    assert asked[-1] == "DescribeEndpoint"


def test_ctrl_c_in_the_middle_says_what_may_remain(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        submit_plan(aws_with(DescribeEndpoint=KeyboardInterrupt()), PLAN, dry_run=False)
    assert "see `submit.py status faces-1`, and stop or remove it if it exists" in capsys.readouterr().err


def test_uploads_go_first_and_are_named_if_the_job_cannot_be_created(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = Upload(tmp_path, ("a.jpg", "b.jpg"), "s3://my-bucket/data/faces-1/", 5_000_000)
    order: list[str] = []

    def send(aws: Aws, upload: Upload, key: str | None) -> int:
        order.append(f"{upload.uri} {key}")
        return 1

    monkeypatch.setattr(plan_module, "send", send)
    plan = replace(PLAN, uploads=(upload,), kms_key="key-1")
    message, _ = rejection(plan, DescribeModel=AwsError("no", "X"))
    assert order == ["s3://my-bucket/data/faces-1/ key-1"]
    by_hand = "`aws s3 rm --recursive s3://my-bucket/data/faces-1/` removes them"
    assert f"uploaded files remain for the next attempt, {by_hand}" in message
    printed = capsys.readouterr().err
    assert "uploads  2 files, 5.0 MB to s3://my-bucket/data/faces-1/" in printed
    assert "uploaded 1 file, 1 already there" in printed


def test_a_submitted_job_prints_its_name_for_scripts_and_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    aws = aws_with(DescribeTrainingJob=training("Completed"))
    submit_job(aws, PLAN, SubmitOptions(wait=True, poll_seconds=0))
    printed = capsys.readouterr()
    assert printed.out == "faces-1\n"
    assert "next: submit.py logs faces-1 | wait faces-1 | download faces-1 | stop faces-1" in printed.err
    submit_job(aws_with(), PLAN, SubmitOptions(dry_run=True))
    assert "next:" not in capsys.readouterr().err
