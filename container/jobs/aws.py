"""Calls to AWS; every error becomes an AwsError, a sentence that says what to do.

aws = Aws(Connection(region="ap-northeast-2"))
aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName="faces-261124-031500")
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore import exceptions, xform_name
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError, S3ValidationError

from jobs.common import Connection
from runtime.errors import JobError

TRANSFER_THREADS = 16  # small files wait for S3, not for this machine
CONNECT_SECONDS = 5  # for each of five attempts; a private network may lack the endpoint of a service
_ABSENT = (
    "ResourceNotFound",
    "ResourceNotFoundException",
    "ObjectNotFoundException",
    "RepositoryNotFoundException",
    "ImageNotFoundException",
    "NoSuchEntity",
    "NoSuchKey",
    "404",
)
_FORBIDDEN = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_ABSENT_WORDS = ("could not find", "not found", "cannot find", "can't find", "does not exist")
_THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown")
_IAM_ACTIONS = {  # where the permission has another name than the operation
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}


class AwsError(JobError):
    """A request that failed: `code` is AWS's error code, or `unreachable`, `unanswered`, or empty.

    `status` is the HTTP status, 0 without a response.
    """

    def __init__(self, sentence: str, code: str = "", status: int = 0) -> None:
        super().__init__(sentence)
        self.code, self.status = code, status

    @property
    def is_absent(self) -> bool:
        """Return whether the requested thing does not exist."""
        return self.code in _ABSENT or (
            self.code.startswith("Validation") and any(words in str(self).lower() for words in _ABSENT_WORDS)
        )

    @property
    def is_forbidden(self) -> bool:
        """Return whether these credentials lack the permission."""
        return self.code in _FORBIDDEN

    @property
    def is_passing(self) -> bool:
        """Return whether the same request may succeed in a minute."""
        return self.status >= 500 or self.code in ("unreachable", "unanswered", *_THROTTLED)

    @property
    def maybe_done(self) -> bool:
        """Return whether it may have succeeded: no response, a broken one, or a retry that met its own result."""
        return self.status >= 500 or self.code in ("unanswered", "ResourceInUse", "ResourceInUseException")


class Aws:
    """The clients of one profile and region."""

    def __init__(self, connection: Connection) -> None:
        with explained("sts", "GetCallerIdentity"):
            self._session = boto3.Session(region_name=connection.region, profile_name=connection.profile)
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """Return the region of the connection, else the profile's; raise AwsError if there is neither."""
        with explained("sts", "GetCallerIdentity"):
            if self._session.region_name is None:
                raise exceptions.NoRegionError
            return str(self._session.region_name)

    def client(self, service: str) -> Any:
        """Return boto3's client of a service, for transfers; everything else goes through `call`."""
        if service not in self._clients:
            with explained(service, "GetCallerIdentity"), _readable_settings():
                retries = {"mode": "standard", "max_attempts": 5}
                config = Config(retries=retries, connect_timeout=CONNECT_SECONDS, max_pool_connections=TRANSFER_THREADS)
                client = self._session.client(service, region_name=self.region, config=config)
                if credentials := self._session.get_credentials():
                    credentials.get_frozen_credentials()  # now, because some are read with the first request only
            self._clients[service] = client
        return self._clients[service]

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the response; raise AwsError."""
        method = getattr(self.client(service), xform_name(operation))
        with explained(service, operation):
            response: dict[str, Any] = method(**request)
            return response

    def find(self, service: str, operation: str, **request: Any) -> dict[str, Any] | None:
        """Send a request and return the response, None if the requested thing does not exist; raise AwsError."""
        try:
            return self.call(service, operation, **request)
        except AwsError as error:
            if not error.is_absent:
                raise
            return None

    def find_if_permitted(self, warning: str, service: str, operation: str, **request: Any) -> dict[str, Any] | None:
        """Return what `find` does; without the permission, as with policies of 0.1.0, warn and return None."""
        try:
            return self.find(service, operation, **request)
        except AwsError as error:
            if not error.is_forbidden:
                raise
            print(f"warning: {warning}: {error}", file=sys.stderr)
            return None

    def pages(self, service: str, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield all pages of a response; raise AwsError."""
        with explained(service, operation):
            yield from self.client(service).get_paginator(xform_name(operation)).paginate(**request)


@contextlib.contextmanager
def passing_errors(report: Callable[[AwsError], None]) -> Iterator[None]:
    """Report errors that pass by themselves, such as a network that is down, instead of raising them."""
    try:
        yield
    except AwsError as error:
        if not error.is_passing:
            raise
        report(error)


@contextlib.contextmanager
def _readable_settings() -> Iterator[None]:
    """Raise AwsError for what botocore cannot use in AWS_* variables and files; it raises errors of Python for some."""
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, exceptions.BotoCoreError):
            raise
        where = "check the AWS_* variables and ~/.aws/config"
        raise AwsError(f"the AWS settings of this machine cannot be used; {where}: {error}") from error


@contextlib.contextmanager
def explained(service: str, operation: str) -> Iterator[None]:
    """Raise boto3's errors as AwsError."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _explain_response(error, service, operation) from error
    except exceptions.BotoCoreError as error:
        raise _explain_failure(error) from error
    except RetriesExceededError as error:
        raise AwsError(f"the transfer failed several times: {error}", "unreachable") from error
    except (S3DownloadFailedError, S3ValidationError) as error:  # the object, or a proxy that changes requests
        raise AwsError(f"the object has changed during the transfer; run the command again: {error}") from error


def _explain_failure(error: exceptions.BotoCoreError) -> AwsError:
    """Return a sentence for what fails before AWS responds."""
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return AwsError("no AWS credentials; run `aws configure` or `aws sso login`, or name a --profile")
        case exceptions.SSOError() | exceptions.LoginError() | exceptions.TokenRetrievalError():
            return AwsError(f"the AWS session has expired; run `aws sso login` or `aws login` again: {error}")
        case exceptions.CredentialRetrievalError():
            return AwsError(f"the process that provides the AWS credentials failed: {error}")
        case exceptions.NoRegionError():
            return AwsError("no AWS region; pass --region, such as --region ap-northeast-2, or set AWS_REGION")
        case exceptions.ProfileNotFound():
            return AwsError(f"{error}; `aws configure list-profiles` lists the profiles")
        case exceptions.ConnectionClosedError() | exceptions.ReadTimeoutError():
            return AwsError(f"AWS did not respond: {error}", "unanswered")
        case exceptions.HTTPClientError() | exceptions.ConnectionError():
            sentence = "AWS cannot be reached; check the network, the proxy and the region's name"
            return AwsError(f"{sentence}: {error}", "unreachable")
    return AwsError(f"{type(error).__name__}: {error}")


def _explain_response(error: exceptions.ClientError, service: str, operation: str) -> AwsError:
    """Return the error for a response of AWS: its code selects the sentence, its message is kept where it helps."""
    code, message = str(error.response["Error"].get("Code", "")), str(error.response["Error"].get("Message", ""))
    message = message.strip().rstrip(".")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return AwsError(_sentence(code, message, service, operation), code, status)


def _sentence(code: str, message: str, service: str, operation: str) -> str:
    if "not authorized" in message or code in _FORBIDDEN:
        return _forbidden(message, service, operation)
    if "assume" in message and "role" in message and service == "scheduler":
        setup = "`submit.py setup --expiry` creates it, and a new role needs a minute"
        return f"the scheduler cannot assume the role that deletes the endpoint; {setup}: {message}"
    if "assume" in message and "role" in message:
        trust = "it must exist and trust sagemaker.amazonaws.com, and a new role needs a minute"
        return f"SageMaker cannot assume the role; {trust}: {message}"
    if code in ("NoSuchBucket", "NoSuchKey", "404") and service == "s3":
        what = "the bucket" if "Bucket" in code else "the object"
        return f"{what} is not in S3; `aws s3 ls` lists buckets and files"
    if code == "400" and service == "s3":  # to a HEAD request, whose response has no reason
        return "S3 rejects the request, as with credentials that have expired; run `aws sso login` or renew them"
    if code in _THROTTLED:
        return "AWS throttles these requests, and five attempts failed; try again in a minute"
    match code:
        case "ExpiredToken" | "ExpiredTokenException" | "RequestExpired":
            return "the AWS credentials have expired; run `aws sso login` or renew them"
        case "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "AuthFailure":
            return "AWS does not know these credentials; check the --profile and `aws configure list`"
        case "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSignatureException":
            return f"AWS rejects the signature; check the secret key and the clock of this machine: {message}"
        case "ResourceLimitExceeded" | "LimitExceeded" | "LimitExceededException":
            return f"the account's quota is used up; request more in Service Quotas, or choose another type: {message}"
        case "ResourceInUse" | "ResourceInUseException":
            return f"this name is already in use, perhaps by this very request: {message}"
        case "ImageNotFoundException" | "RepositoryNotFoundException":
            return f"the image is not in the registry; push it with `submit.py push`: {message}"
        case "BucketAlreadyExists":
            return "another account has a bucket of that name; choose another --bucket"
        case "PermanentRedirect" | "IllegalLocationConstraintException" | "301":
            return f"the bucket is in another region; use that --region, or a bucket in this one: {message}"
    return f"{operation} failed with {code}: {message}"


def _forbidden(message: str, service: str, operation: str) -> str:
    """Return a sentence that names the missing permission; S3 does not always name it."""
    told = re.search(r"perform: ([\w-]+:\w+)", message)
    action = told[1] if told else _IAM_ACTIONS.get(operation, f"{service}:{operation}")
    resource = re.search(r"on resource: (\S+)", message)
    where = f": {resource[1]}" if resource else ""
    remedy = "add it to their policy, see container/iam-policy.json"
    return f"these credentials have no permission for `{action}`; {remedy}{where}"
