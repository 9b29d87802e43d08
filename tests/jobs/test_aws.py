"""Whatever AWS answers, or does not, comes out as a sentence that says what to do."""

import os
from typing import Any

import pytest
from botocore import exceptions
from moto import mock_aws
from s3transfer.exceptions import RetriesExceededError

from jobs.aws import Aws, AwsError, explained
from jobs.common import Connection


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's credentials nor its region reach a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def refused(code: str, message: str = "", operation: str = "CreateTrainingJob", service: str = "sagemaker") -> AwsError:
    """What becomes of an answer that is an error."""
    answer = {"Error": {"Code": code, "Message": message}}
    with pytest.raises(AwsError) as caught, explained(service, operation):
        raise exceptions.ClientError(answer, operation)
    return caught.value


def failed(error: Exception) -> AwsError:
    """What becomes of a question that got no answer."""
    with pytest.raises(AwsError) as caught, explained("sagemaker", "CreateTrainingJob"):
        raise error
    return caught.value


DENIED = (
    "User: arn:aws:iam::1:user/me is not authorized to perform: {} on resource: {} because no identity-based policy "
    "allows the action"
)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("sagemaker:CreateTrainingJob", "arn:aws:sagemaker:eu-west-1:1:training-job/faces"),
        ("iam:PassRole", "arn:aws:iam::1:role/sagemaker"),
    ],
)
def test_a_missing_permission_is_named_with_the_file_that_has_it(action: str, resource: str) -> None:
    error = refused("AccessDeniedException", DENIED.format(action, resource))
    assert f"may not do `{action}`" in str(error)
    assert "container/iam-policy.json" in str(error)
    assert str(error).endswith(f": {resource}")
    assert not error.is_absent


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("HeadBucket", "s3:ListBucket"),
        ("HeadObject", "s3:GetObject"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("UploadPart", "s3:PutObject"),
        ("PutObject", "s3:PutObject"),
    ],
)
def test_s3_does_not_say_which_permission_is_missing_but_we_do(operation: str, action: str) -> None:
    assert f"may not do `{action}`" in str(refused("403", "Forbidden", operation, "s3"))


@pytest.mark.parametrize(
    ("code", "message", "sentence"),
    [
        ("ExpiredToken", "The security token included in the request is expired", "credentials have expired; run `aws"),
        ("UnrecognizedClientException", "The security token is invalid", "AWS does not know these credentials"),
        ("RequestTimeTooSkewed", "The difference is too large", "check the secret key and the clock of this machine"),
        ("ResourceLimitExceeded", "limit 'ml.g5.xlarge for spot' is 0 Instances.", "quota is used up; ask for more in"),
        ("ThrottlingException", "Rate exceeded", "AWS asks to slow down"),
        ("ResourceInUse", "Training job already exists", "exists already, perhaps from this very request"),
        ("ValidationException", "Could not assume role arn:x.", "it must exist and trust sagemaker.amazonaws.com"),
        ("RepositoryNotFoundException", "no repository", "push it with `submit.py push`"),
        ("BucketAlreadyExists", "", "another account has a bucket of that name"),
        ("IllegalLocationConstraintException", "x", "the bucket lies in another region"),
        ("InternalServerError", "try later.", "AWS answered CreateTrainingJob with InternalServerError: try later"),
    ],
)
def test_each_refusal_says_what_to_do(code: str, message: str, sentence: str) -> None:
    error = refused(code, message)
    assert sentence in str(error)
    assert not str(error).endswith(".")


def test_a_missing_bucket_or_file_is_said() -> None:
    assert "the bucket is not in S3" in str(refused("NoSuchBucket", "", "ListObjectsV2", "s3"))
    assert "what was asked for is not in S3" in str(refused("404", "Not Found", "HeadObject", "s3"))


@pytest.mark.parametrize(
    ("code", "message", "absent"),
    [
        ("ValidationException", "Requested resource not found.", True),
        ("ValidationException", "Could not find requested job with name: x", True),
        ("ResourceNotFound", "Amazon SageMaker can't find a tuning job", True),
        ("ValidationException", "1 validation error detected: Value 'x' failed", False),
        ("AccessDeniedException", "the resource was not found", False),
    ],
)
def test_what_does_not_exist_is_told_from_what_is_wrong(code: str, message: str, absent: bool) -> None:
    assert refused(code, message).is_absent is absent


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (exceptions.NoCredentialsError(), "no AWS credentials; run `aws configure` or `aws sso login`"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), "no AWS credentials"),
        (exceptions.UnauthorizedSSOTokenError(), "the AWS session is over; run `aws sso login`"),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), "the program that hands out"),
        (exceptions.NoRegionError(), "no AWS region; pass --region"),
        (exceptions.ProfileNotFound(profile="x"), "`aws configure list-profiles`"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "cannot be reached; check the network"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), "cannot be reached; check the network"),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), "AWS did not answer"),
        (RetriesExceededError(OSError("broken pipe")), "the transfer broke off again and again"),
        (exceptions.InvalidRegionError(region_name="x y"), "InvalidRegionError: "),
    ],
)
def test_each_trouble_on_the_way_says_what_to_do(error: Exception, sentence: str) -> None:
    assert sentence in str(failed(error))


def explained_answer(code: str, status: int) -> AwsError:
    answer: Any = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return failed(exceptions.ClientError(answer, "CreateTransformJob"))


def test_what_may_pass_and_what_may_have_been_done_are_told_apart() -> None:
    assert failed(exceptions.EndpointConnectionError(endpoint_url="https://x")).is_passing
    unanswered = failed(exceptions.ReadTimeoutError(endpoint_url="https://x"))
    assert unanswered.is_passing
    assert unanswered.maybe_done
    assert refused("ResourceInUse").maybe_done
    broken = explained_answer("ServiceUnavailable", 503)
    assert broken.is_passing
    assert broken.maybe_done
    assert not explained_answer("ValidationException", 400).is_passing
    assert refused("ThrottlingException").is_passing
    for code in ("AccessDenied", "ExpiredToken", "ValidationException"):
        assert not refused(code).is_passing
        assert not refused(code).maybe_done


def test_without_credentials_the_first_call_says_so() -> None:
    with pytest.raises(AwsError, match="no AWS credentials"):
        Aws(Connection(region="eu-west-1")).call("sts", "GetCallerIdentity")


def test_without_a_region_nothing_is_asked() -> None:
    with pytest.raises(AwsError, match="no AWS region"):
        Aws(Connection()).call("sts", "GetCallerIdentity")


def test_an_unknown_profile_is_said_at_once() -> None:
    with pytest.raises(AwsError, match="`aws configure list-profiles`"):
        Aws(Connection(profile="nobody"))


@mock_aws
def test_a_refusal_in_the_middle_of_pages_is_a_sentence_too() -> None:
    pages = Aws(Connection(region="eu-west-1")).pages("s3", "ListObjectsV2", Bucket="nowhere")
    with pytest.raises(AwsError, match="the bucket is not in S3"):
        list(pages)


@mock_aws
def test_pages_and_calls_answer_as_boto3_does() -> None:
    aws = Aws(Connection(region="us-east-1"))
    aws.call("s3", "CreateBucket", Bucket="my-bucket")
    aws.call("s3", "PutObject", Bucket="my-bucket", Key="a", Body=b"1")
    found: list[Any] = [page["Contents"][0]["Key"] for page in aws.pages("s3", "ListObjectsV2", Bucket="my-bucket")]
    assert found == ["a"]
