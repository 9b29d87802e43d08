"""Whatever AWS responds, or does not, becomes a sentence that says what to do."""

import os
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions
from moto import mock_aws
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError, S3ValidationError

from jobs.aws import Aws, AwsError, explained, passing_errors
from jobs.common import Connection
from support.fake_aws import ABSENT, FakeAws
from support.job_requests import ROLE


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's credentials and region."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def error_for(
    code: str, message: str = "", operation: str = "CreateTrainingJob", service: str = "sagemaker"
) -> AwsError:
    """Return the error for an error response."""
    answer = {"Error": {"Code": code, "Message": message}}
    with pytest.raises(AwsError) as caught, explained(service, operation):
        raise exceptions.ClientError(answer, operation)
    return caught.value


def failed(error: Exception) -> AwsError:
    """Return the error for a request without a response."""
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
    error = error_for("AccessDeniedException", DENIED.format(action, resource))
    assert f"no permission for `{action}`" in str(error)
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
def test_a_missing_permission_that_s3_does_not_name_is_named_too(operation: str, action: str) -> None:
    assert f"no permission for `{action}`" in str(error_for("403", "Forbidden", operation, "s3"))


@pytest.mark.parametrize(
    ("code", "message", "sentence"),
    [
        ("ExpiredToken", "The security token included in the request is expired", "credentials have expired; run `aws"),
        ("UnrecognizedClientException", "The security token is invalid", "AWS does not know these credentials"),
        ("RequestTimeTooSkewed", "The difference is too large", "check the secret key and the clock of this machine"),
        ("ResourceLimitExceeded", "limit 'ml.g5.xlarge for spot' is 0 Instances.", "quota is used up; request more in"),
        ("ThrottlingException", "Rate exceeded", "AWS throttles these requests"),
        ("ResourceInUse", "Training job already exists", "already in use, perhaps by this very request"),
        ("ValidationException", "Could not assume role arn:x.", "it must exist and trust sagemaker.amazonaws.com"),
        ("RepositoryNotFoundException", "no repository", "push it with `submit.py push`"),
        ("BucketAlreadyExists", "", "another account has a bucket of that name"),
        ("IllegalLocationConstraintException", "x", "the bucket is in another region"),
        ("InternalServerError", "try later.", "CreateTrainingJob failed with InternalServerError: try later"),
    ],
)
def test_each_error_response_says_what_to_do(code: str, message: str, sentence: str) -> None:
    error = error_for(code, message)
    assert sentence in str(error)
    assert not str(error).endswith(".")


def test_the_role_of_the_scheduler_is_told_from_that_of_the_job() -> None:
    message = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    error = error_for("ValidationException", message, "CreateSchedule", "scheduler")
    assert str(error).startswith("the scheduler cannot assume the role that deletes the endpoint; `submit.py setup ")


def test_a_missing_bucket_or_file_is_named() -> None:
    assert "the bucket is not in S3" in str(error_for("NoSuchBucket", "", "ListObjectsV2", "s3"))
    assert "the object is not in S3" in str(error_for("404", "Not Found", "HeadObject", "s3"))


def test_a_request_that_s3_rejects_without_a_reason_names_the_usual_one() -> None:
    assert "as with credentials that have expired" in str(error_for("400", "Bad Request", "GetObject", "s3"))


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
    assert error_for(code, message).is_absent is absent


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (exceptions.NoCredentialsError(), "no AWS credentials; run `aws configure` or `aws sso login`"),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), "no AWS credentials"),
        (exceptions.UnauthorizedSSOTokenError(), "the AWS session has expired; run `aws sso login`"),
        (exceptions.CredentialRetrievalError(provider="x", error_msg="y"), "the process that provides"),
        (exceptions.NoRegionError(), "no AWS region; pass --region"),
        (exceptions.ProfileNotFound(profile="x"), "`aws configure list-profiles`"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), "cannot be reached; check the network"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), "cannot be reached; check the network"),
        (exceptions.ReadTimeoutError(endpoint_url="https://x"), "AWS did not respond"),
        (RetriesExceededError(OSError("broken pipe")), "the transfer failed several times"),
        (S3DownloadFailedError("did not match expected ETag"), "the object has changed during the transfer; run"),
        (S3ValidationError("response range"), "the object has changed during the transfer; run the command again"),
        (exceptions.InvalidRegionError(region_name="x y"), "InvalidRegionError: "),
    ],
)
def test_each_failure_before_a_response_says_what_to_do(error: Exception, sentence: str) -> None:
    assert sentence in str(failed(error))


def explained_response(code: str, status: int) -> AwsError:
    answer: Any = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return failed(exceptions.ClientError(answer, "CreateTransformJob"))


def test_errors_that_pass_and_requests_that_may_have_succeeded_are_told_apart() -> None:
    assert failed(exceptions.EndpointConnectionError(endpoint_url="https://x")).is_passing
    unanswered = failed(exceptions.ReadTimeoutError(endpoint_url="https://x"))
    assert unanswered.is_passing
    assert unanswered.maybe_done
    assert error_for("ResourceInUse").maybe_done
    broken = explained_response("ServiceUnavailable", 503)
    assert broken.is_passing
    assert broken.maybe_done
    assert not explained_response("ValidationException", 400).is_passing
    assert error_for("ThrottlingException").is_passing
    for code in ("AccessDenied", "ExpiredToken", "ValidationException"):
        assert not error_for(code).is_passing
        assert not error_for(code).maybe_done


def test_without_credentials_the_first_call_is_an_error() -> None:
    with pytest.raises(AwsError, match="no AWS credentials"):
        Aws(Connection(region="eu-west-1")).call("sts", "GetCallerIdentity")


def test_without_a_region_nothing_is_asked() -> None:
    with pytest.raises(AwsError, match="no AWS region"):
        Aws(Connection()).call("sts", "GetCallerIdentity")


def test_a_service_that_a_private_network_lacks_costs_half_a_minute_at_most() -> None:
    config = Aws(Connection(region="eu-west-1")).client("sts").meta.config
    assert config.connect_timeout * config.retries["total_max_attempts"] <= 30


def test_an_unknown_profile_is_an_error_at_once() -> None:
    with pytest.raises(AwsError, match="`aws configure list-profiles`"):
        Aws(Connection(profile="nobody"))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"AWS_ENDPOINT_URL": "foo"}, "Invalid endpoint: foo"),
        ({"AWS_METADATA_SERVICE_TIMEOUT": "soon"}, "invalid literal for int"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com"}, "Unsupported host 'example.com'"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent", "AWS_ROLE_ARN": ROLE}, "No such file .*'/nonexistent'"),
    ],
)
def test_a_variable_that_botocore_cannot_use_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(AwsError, match=f"check the AWS_.* variables and ~/.aws/config: .*{sentence}"):
        Aws(Connection(region="eu-west-1")).call("sts", "GetCallerIdentity")


@pytest.mark.parametrize("command", ["/nonexistent/credentials", "echo no-json"])
def test_a_process_that_provides_no_credentials_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(AwsError, match="the AWS settings of this machine cannot be used"):
        Aws(Connection(region="eu-west-1")).call("sts", "GetCallerIdentity")


@mock_aws
def test_an_error_in_the_middle_of_pages_is_a_sentence_too() -> None:
    pages = Aws(Connection(region="eu-west-1")).pages("s3", "ListObjectsV2", Bucket="nowhere")
    with pytest.raises(AwsError, match="the bucket is not in S3"):
        list(pages)


@mock_aws
def test_pages_and_calls_return_what_boto3_does() -> None:
    aws = Aws(Connection(region="us-east-1"))
    aws.call("s3", "CreateBucket", Bucket="my-bucket")
    aws.call("s3", "PutObject", Bucket="my-bucket", Key="a", Body=b"1")
    found: list[Any] = [page["Contents"][0]["Key"] for page in aws.pages("s3", "ListObjectsV2", Bucket="my-bucket")]
    assert found == ["a"]


def test_finding_returns_none_for_what_does_not_exist_and_raises_any_other_error() -> None:
    aws = FakeAws(DescribeModel={"ModelName": "m"}, DescribeEndpoint=ABSENT, DescribeImages=AwsError("x", "403"))
    assert aws.find("sagemaker", "DescribeModel") == {"ModelName": "m"}
    assert aws.find("sagemaker", "DescribeEndpoint") is None
    with pytest.raises(AwsError, match="x"):
        aws.find("ecr", "DescribeImages")


def test_an_error_that_passes_is_reported_and_any_other_raised() -> None:
    def fail(error: AwsError) -> None:
        raise error

    reported: list[AwsError] = []
    down, denied = AwsError("AWS cannot be reached", "unreachable"), AwsError("x", "AccessDenied")
    with passing_errors(reported.append):
        fail(down)
    assert reported == [down]
    with pytest.raises(AwsError, match="x"), passing_errors(reported.append):
        fail(denied)
