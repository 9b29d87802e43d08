"""Calls to AWS, one gate for all of them: what goes wrong comes out as a sentence that says what to do.

aws = Aws(region="ap-northeast-2", profile=None)
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

from errors import JobError

_ABSENT = ("ResourceNotFound", "RepositoryNotFoundException", "ImageNotFoundException", "NoSuchEntity", "404")
_ABSENT_WORDS = ("could not find", "not found", "cannot find", "can't find", "does not exist")
_IAM_ACTIONS = {  # where the permission is not called as the operation
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}


class AwsError(JobError):
    """AWS refused, or could not be asked; `code` is AWS's own word for it, "" if there is none."""

    def __init__(self, sentence: str, code: str = "", maybe_done: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.maybe_done = maybe_done  # the request was sent, and no answer came

    @property
    def is_absent(self) -> bool:
        """Whether the thing asked for does not exist."""
        return self.code in _ABSENT or (
            self.code.startswith("Validation") and any(words in str(self).lower() for words in _ABSENT_WORDS)
        )


class Aws:
    """The clients of one profile and region."""

    def __init__(self, region: str | None, profile: str | None) -> None:
        with explained("sts", "GetCallerIdentity"):
            self._session = boto3.Session(region_name=region, profile_name=profile)
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
                config = Config(retries={"mode": "standard", "max_attempts": 5})
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
        raise AwsError(f"the transfer broke off again and again; check the network: {error}") from error


def _explain_trouble(error: exceptions.BotoCoreError) -> AwsError:
    """A sentence for what goes wrong before AWS answers."""
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return AwsError("no AWS credentials; run `aws configure` or `aws sso login`, or name a --profile")
        case exceptions.SSOError() | exceptions.TokenRetrievalError() | exceptions.CredentialRetrievalError():
            return AwsError(f"the AWS credentials could not be had; run `aws sso login` again: {error}")
        case exceptions.NoRegionError():
            return AwsError("no AWS region; pass --region, such as --region ap-northeast-2, or set AWS_REGION")
        case exceptions.ProfileNotFound():
            return AwsError(f"{error}; `aws configure list-profiles` shows what there is")
        case exceptions.ConnectionClosedError() | exceptions.ReadTimeoutError():
            return AwsError(f"AWS did not answer; look whether it was done before trying again: {error}", "", True)
        case exceptions.HTTPClientError() | exceptions.ConnectionError():
            return AwsError(f"AWS cannot be reached; check the network, the proxy and the region's name: {error}")
    return AwsError(f"{type(error).__name__}: {error}")


def _explain_refusal(error: exceptions.ClientError, service: str, operation: str) -> AwsError:
    """A sentence for an answer that is an error: AWS's code decides, its message is kept where it helps."""
    code, message = str(error.response["Error"].get("Code", "")), str(error.response["Error"].get("Message", ""))
    message = message.strip().rstrip(".")
    return AwsError(_sentence(code, message, service, operation), code)


def _sentence(code: str, message: str, service: str, operation: str) -> str:
    if "not authorized" in message or code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"):
        return _forbidden(message, service, operation)
    if "assume" in message and "role" in message:
        return f"SageMaker cannot take on the role; it must exist and trust sagemaker.amazonaws.com: {message}"
    if code in ("NoSuchBucket", "404") and service == "s3":
        what = "the bucket does not exist" if "Bucket" in code + operation else "no such object"
        return f"{what}; `submit.py setup` makes a bucket, `aws s3 ls` shows what there is"
    match code:
        case "ExpiredToken" | "ExpiredTokenException" | "RequestExpired":
            return "the AWS credentials have expired; run `aws sso login` or renew them"
        case "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "AuthFailure":
            return "AWS does not know these credentials; check the --profile and `aws configure list`"
        case "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSignatureException":
            return f"AWS refuses the signature; check the secret key and the clock of this machine: {message}"
        case "ResourceLimitExceeded" | "LimitExceededException":
            return f"the account's quota is used up; ask for more in Service Quotas, or take another machine: {message}"
        case "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "SlowDown":
            return "AWS asks to slow down, and five tries were not enough; try again in a minute"
        case "ResourceInUse" | "ResourceInUseException":
            return f"something of that name exists already; choose another --name: {message}"
        case "ImageNotFoundException" | "RepositoryNotFoundException":
            return f"the image is not in the registry; push it with `submit.py push`: {message}"
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
