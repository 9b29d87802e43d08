"""Calls to AWS, one gate for all of them: what goes wrong comes out as a sentence that says what to do.

aws = Aws(Connection(region="ap-northeast-2"))
aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName="faces-261124-031500")
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore import exceptions, xform_name
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError  # type: ignore[import-untyped]  # ships no types

from jobs.common import Connection
from runtime.errors import JobError

TRANSFER_THREADS = 16  # small files wait for S3, not for this machine
_ABSENT = (
    "ResourceNotFound",
    "ResourceNotFoundException",
    "RepositoryNotFoundException",
    "ImageNotFoundException",
    "NoSuchEntity",
    "NoSuchKey",
    "404",
)
_FORBIDDEN = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_ABSENT_WORDS = ("could not find", "not found", "cannot find", "can't find", "does not exist")
_THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown")
_IAM_ACTIONS = {  # where the permission is not called as the operation
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}


class AwsError(JobError):
    """AWS refused, or could not be asked; `code` is AWS's own word for it, or `unreachable`, `unanswered`, or empty.

    `status` is that of HTTP, 0 if no answer came.
    """

    def __init__(self, sentence: str, code: str = "", status: int = 0) -> None:
        super().__init__(sentence)
        self.code, self.status = code, status

    @property
    def is_absent(self) -> bool:
        """Whether the thing asked for does not exist."""
        return self.code in _ABSENT or (
            self.code.startswith("Validation") and any(words in str(self).lower() for words in _ABSENT_WORDS)
        )

    @property
    def is_forbidden(self) -> bool:
        """Whether these credentials may not ask."""
        return self.code in _FORBIDDEN

    @property
    def is_passing(self) -> bool:
        """Whether the same question may be answered in a minute."""
        return self.status >= 500 or self.code in ("unreachable", "unanswered", *_THROTTLED)

    @property
    def maybe_done(self) -> bool:
        """Whether it may have been done all the same: no answer, a broken one, or a retry that met its own result."""
        return self.status >= 500 or self.code in ("unanswered", "ResourceInUse", "ResourceInUseException")


class Aws:
    """The clients of one profile and region."""

    def __init__(self, connection: Connection) -> None:
        with explained("sts", "GetCallerIdentity"):
            self._session = boto3.Session(region_name=connection.region, profile_name=connection.profile)
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """The region asked for, else the profile's; raises AwsError if there is neither."""
        with explained("sts", "GetCallerIdentity"):
            if self._session.region_name is None:
                raise exceptions.NoRegionError
            return str(self._session.region_name)

    def client(self, service: str) -> Any:
        """boto3's client of a service, for transfers; everything else goes through `call`."""
        if service not in self._clients:
            with explained(service, "GetCallerIdentity"):
                retries = {"mode": "standard", "max_attempts": 5}
                config = Config(retries=retries, max_pool_connections=TRANSFER_THREADS)
                self._clients[service] = self._session.client(service, region_name=self.region, config=config)
        return self._clients[service]

    def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Ask once and return the answer; raises AwsError."""
        method = getattr(self.client(service), xform_name(operation))
        with explained(service, operation):
            answer: dict[str, Any] = method(**request)
            return answer

    def pages(self, service: str, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        """All pages of an answer, one after the other; raises AwsError."""
        with explained(service, operation):
            yield from self.client(service).get_paginator(xform_name(operation)).paginate(**request)


@contextlib.contextmanager
def explained(service: str, operation: str) -> Iterator[None]:
    """Turn whatever boto3 raises inside into an AwsError."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _explain_refusal(error, service, operation) from error
    except exceptions.BotoCoreError as error:
        raise _explain_trouble(error) from error
    except RetriesExceededError as error:
        raise AwsError(f"the transfer broke off again and again: {error}", "unreachable") from error


def _explain_trouble(error: exceptions.BotoCoreError) -> AwsError:
    """A sentence for what goes wrong before AWS answers."""
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return AwsError("no AWS credentials; run `aws configure` or `aws sso login`, or name a --profile")
        case exceptions.SSOError() | exceptions.LoginError() | exceptions.TokenRetrievalError():
            return AwsError(f"the AWS session is over; run `aws sso login` or `aws login` again: {error}")
        case exceptions.CredentialRetrievalError():
            return AwsError(f"the program that hands out the AWS credentials failed: {error}")
        case exceptions.NoRegionError():
            return AwsError("no AWS region; pass --region, such as --region ap-northeast-2, or set AWS_REGION")
        case exceptions.ProfileNotFound():
            return AwsError(f"{error}; `aws configure list-profiles` shows what there is")
        case exceptions.ConnectionClosedError() | exceptions.ReadTimeoutError():
            return AwsError(f"AWS did not answer: {error}", "unanswered")
        case exceptions.HTTPClientError() | exceptions.ConnectionError():
            sentence = "AWS cannot be reached; check the network, the proxy and the region's name"
            return AwsError(f"{sentence}: {error}", "unreachable")
    return AwsError(f"{type(error).__name__}: {error}")


def _explain_refusal(error: exceptions.ClientError, service: str, operation: str) -> AwsError:
    """A sentence for an answer that is an error: AWS's code decides, its message is kept where it helps."""
    code, message = str(error.response["Error"].get("Code", "")), str(error.response["Error"].get("Message", ""))
    message = message.strip().rstrip(".")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return AwsError(_sentence(code, message, service, operation), code, status)


def _sentence(code: str, message: str, service: str, operation: str) -> str:
    if "not authorized" in message or code in _FORBIDDEN:
        return _forbidden(message, service, operation)
    if "assume" in message and "role" in message:
        trust = "it must exist and trust sagemaker.amazonaws.com, and a new role needs a minute"
        return f"SageMaker cannot take on the role; {trust}: {message}"
    if code in ("NoSuchBucket", "NoSuchKey", "404") and service == "s3":
        what = "the bucket" if "Bucket" in code else "what was asked for"
        return f"{what} is not in S3; `aws s3 ls` shows what there is"
    if code in _THROTTLED:
        return "AWS asks to slow down, and five tries were not enough; try again in a minute"
    match code:
        case "ExpiredToken" | "ExpiredTokenException" | "RequestExpired":
            return "the AWS credentials have expired; run `aws sso login` or renew them"
        case "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "AuthFailure":
            return "AWS does not know these credentials; check the --profile and `aws configure list`"
        case "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSignatureException":
            return f"AWS refuses the signature; check the secret key and the clock of this machine: {message}"
        case "ResourceLimitExceeded" | "LimitExceededException":
            return f"the account's quota is used up; ask for more in Service Quotas, or take another machine: {message}"
        case "ResourceInUse" | "ResourceInUseException":
            return f"something of that name exists already, perhaps from this very request: {message}"
        case "ImageNotFoundException" | "RepositoryNotFoundException":
            return f"the image is not in the registry; push it with `submit.py push`: {message}"
        case "BucketAlreadyExists":
            return "another account has a bucket of that name; choose another --bucket"
        case "PermanentRedirect" | "IllegalLocationConstraintException" | "301":
            return f"the bucket lies in another region; use that --region, or a bucket here: {message}"
    return f"AWS answered {operation} with {code}: {message}"


def _forbidden(message: str, service: str, operation: str) -> str:
    """Name the permission that is missing; AWS tells it in the message, S3 does not always."""
    told = re.search(r"perform: ([\w-]+:\w+)", message)
    action = told[1] if told else _IAM_ACTIONS.get(operation, f"{service}:{operation}")
    resource = re.search(r"on resource: (\S+)", message)
    where = f": {resource[1]}" if resource else ""
    return f"these credentials may not do `{action}`; add it to their policy, container/iam-policy.json has it{where}"
