"""Nothing is sent that would fail, and nothing is left half made without saying what and how to remove it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import plan as submission
from jobs.aws import AwsError
from jobs.common import Place
from jobs.instances import Call
from jobs.plan import Plan, offer
from jobs.s3 import Upload
from runtime.errors import ConfigError, JobError

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mask-classifier:abc"
MODEL = Call("DescribeModel", {"ModelName": "faces-1"}, ("DeleteModel", {"ModelName": "faces-1"}))
ENDPOINT = Call("DescribeEndpoint", {"EndpointName": "faces-1"}, ("DeleteEndpoint", {"EndpointName": "faces-1"}))
PLAN = Plan(
    job="faces-1",
    place=Place(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket"),
    image=IMAGE,
    calls=(MODEL, ENDPOINT),
    machines="1 x ml.g5.xlarge, spot",
)


class FakeAws:
    """Notes what was asked; fails where it is told to."""

    region = "eu-west-1"

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[str]()

    def call(self, service: str, operation: str, **request: Any) -> Any:
        self.asked.append(operation)
        answer = self.answers.get(operation, {})
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def pages(self, service: str, operation: str, **request: Any) -> Any:
        yield self.call(service, operation, **request)


def refusal(plan: Plan = PLAN, **answers: Any) -> tuple[str, list[str]]:
    """The sentence, and everything that was asked of AWS before."""
    aws = FakeAws(**answers)
    with pytest.raises(JobError) as caught:
        offer(aws, plan, dry_run=False)
    return str(caught.value), aws.asked


def test_what_can_fail_is_looked_at_first_and_then_sent_in_order() -> None:
    aws = FakeAws()
    offer(aws, replace(PLAN, needed_uris=("s3://my-bucket/model.tar.gz",)), dry_run=False)
    assert aws.asked == ["HeadBucket", "HeadObject", "DescribeImages", "DescribeModel", "DescribeEndpoint"]


def test_a_dry_run_asks_nothing_and_prints_the_exact_requests(capsys: pytest.CaptureFixture[str]) -> None:
    aws = FakeAws()
    offer(aws, PLAN, dry_run=True)
    said = capsys.readouterr()
    assert aws.asked == []
    assert json.loads(said.out) == {"DescribeModel": MODEL.request, "DescribeEndpoint": ENDPOINT.request}
    assert "runs on  1 x ml.g5.xlarge, spot" in said.err


@pytest.mark.parametrize(
    ("changes", "price", "line"),
    [
        ({"machine_hours": 12.5}, 1.4, "costs    at most 17.50 (12.5 machine hours at 1.4); spot is less"),
        ({"machine_hours": 2, "machines": "1 x m"}, 1.0, "costs    at most 2.00 (2 machine hours at 1)\n"),
        ({"machine_hours": None}, 1.4, "costs    1.4 per machine and hour, until it has ended or is removed"),
        ({"machine_hours": 12.5, "longest": "12 h"}, None, "longest  12 h\n"),
        ({"resumes": "from x"}, None, "resumes  from x\n"),
    ],
)
def test_it_says_what_it_can_cost(
    changes: dict[str, Any], price: float | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(FakeAws(), replace(PLAN, **changes), dry_run=True, price_per_hour=price)
    said = capsys.readouterr().err
    assert line in said
    assert ("costs" in said) == (price is not None)


def test_a_request_that_aws_would_refuse_is_never_sent() -> None:
    wrong = replace(PLAN, calls=(replace(MODEL, request={"ModelName": "a" * 64}),))
    sentence, asked = refusal(wrong)
    assert "ModelName has 64 characters" in sentence
    assert asked == []
    with pytest.raises(ConfigError):
        offer(FakeAws(), wrong, dry_run=True)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"HeadBucket": AwsError("x", "404")}, "the bucket does not exist; `submit.py setup` makes it: my-bucket"),
        ({"HeadBucket": AwsError("may not do", "403")}, "may not do: s3://my-bucket"),
        ({"HeadBucket": {"BucketRegion": "us-east-1"}}, "the bucket lies in us-east-1, the job would run in eu-west-1"),
        ({"HeadObject": AwsError("x", "404")}, "what the job needs is not there; `submit.py status` tells whether"),
        ({"DescribeImages": AwsError("x", "ImageNotFoundException")}, f"push it with `submit.py push`: {IMAGE}"),
        ({"DescribeImages": AwsError("may not do", "AccessDenied")}, "may not do"),
    ],
)
def test_what_would_fail_minutes_later_is_said_before_anything_is_made(answers: dict[str, Any], sentence: str) -> None:
    said, asked = refusal(replace(PLAN, needed_uris=("s3://my-bucket/model.tar.gz",)), **answers)
    assert sentence in said
    assert "DescribeModel" not in asked


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            {"KeyCount": 0},
            "there is no file in S3 under this name; `aws s3 ls` shows what there is: s3://photos/faces/",
        ),
        (AwsError("the bucket is not in S3", "NoSuchBucket"), "the bucket is not in S3: s3://photos/faces/"),
        (AwsError("may not do", "AccessDenied"), None),  # the role may be allowed what the submitter is not
        ({"KeyCount": 1}, None),
    ],
)
def test_data_that_is_not_uploaded_must_be_there(answer: Any, sentence: str | None) -> None:
    plan = replace(PLAN, needed_uris=("s3://photos/faces/",))
    if sentence:
        said, asked = refusal(plan, ListObjectsV2=answer)
        assert said == sentence
        assert "DescribeModel" not in asked
    else:
        offer(FakeAws(ListObjectsV2=answer), plan, dry_run=False)


def test_what_only_the_role_may_see_is_passed() -> None:
    plan = replace(PLAN, needed_uris=("s3://models/model.tar.gz",))
    offer(FakeAws(HeadObject=AwsError("may not do", "403")), plan, dry_run=False)
    said, _ = refusal(plan, HeadObject=AwsError("x", "404"))
    assert "what the job needs is not there" in said
    plan = replace(PLAN, image=IMAGE.replace("123456789012", "999999999999"))
    offer(FakeAws(DescribeImages=AwsError("may not do", "AccessDeniedException")), plan, dry_run=False)
    said, _ = refusal(plan, DescribeImages=AwsError("x", "ImageNotFoundException"))
    assert "the image is not in the registry" in said


def test_an_image_of_another_region_is_refused_and_one_of_another_registry_is_sagemakers_to_find() -> None:
    sentence, _ = refusal(replace(PLAN, image=IMAGE.replace("eu-west-1", "us-east-1")))
    assert "the image lies in us-east-1, the job would run in eu-west-1" in sentence
    aws = FakeAws()
    offer(aws, replace(PLAN, image="registry.example.org/faces:1"), dry_run=False)
    assert "DescribeImages" not in aws.asked


def test_an_image_may_be_named_by_its_digest() -> None:
    aws = FakeAws()
    offer(aws, replace(PLAN, image=f"{IMAGE.split(':')[0]}@sha256:{'0' * 64}"), dry_run=False)
    assert "DescribeImages" in aws.asked


def test_what_was_half_made_is_taken_back() -> None:
    said, asked = refusal(DescribeEndpoint=AwsError("quota is used up", "ResourceLimitExceeded"))
    assert said == "quota is used up; DescribeModel faces-1 was taken back"
    assert asked[-1] == "DeleteModel"


def test_what_cannot_be_taken_back_is_named_with_the_command_that_removes_it() -> None:
    said, _ = refusal(DescribeEndpoint=AwsError("no", "X"), DeleteModel=AwsError("may not do", "AccessDenied"))
    by_hand = "`aws sagemaker delete-model --model-name faces-1` removes it (may not do)"
    assert f"left behind by DescribeModel: {by_hand}" in said


def test_a_request_without_an_answer_may_have_been_done_so_nothing_is_taken_from_under_it() -> None:
    said, asked = refusal(DescribeEndpoint=AwsError("AWS did not answer", "unanswered"))
    assert "see `submit.py status faces-1`, and stop or remove it if it is there" in said
    assert asked[-1] == "DescribeEndpoint"


def test_ctrl_c_in_the_middle_says_what_may_be_left(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        offer(FakeAws(DescribeEndpoint=KeyboardInterrupt()), PLAN, dry_run=False)
    assert "see `submit.py status faces-1`, and stop or remove it if it is there" in capsys.readouterr().err


def test_uploads_go_first_and_are_named_when_the_job_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = Upload(tmp_path, ("a.jpg", "b.jpg"), "s3://my-bucket/data/faces-1/", 5_000_000)
    order: list[str] = []
    monkeypatch.setattr(submission, "send", lambda aws, upload, key: order.append(f"{upload.uri} {key}") or 1)
    plan = replace(PLAN, uploads=(upload,), kms_key="key-1")
    said, _ = refusal(plan, DescribeModel=AwsError("no", "X"))
    assert order == ["s3://my-bucket/data/faces-1/ key-1"]
    by_hand = "`aws s3 rm --recursive s3://my-bucket/data/faces-1/` removes them"
    assert f"uploaded files stay for the next try, {by_hand}" in said
    printed = capsys.readouterr().err
    assert "uploads  2 files, 5.0 MB to s3://my-bucket/data/faces-1/" in printed
    assert "sent 1 file, 1 were there already" in printed
