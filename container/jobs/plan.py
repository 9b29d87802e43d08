"""From requests to a running job: check offline, show or look first, upload, send, and take back what was half made."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from jobs.aws import Aws, AwsError
from jobs.common import Place
from jobs.instances import Call
from jobs.limits import check_request
from jobs.s3 import Upload, send, split_uri
from runtime.errors import JobError

_ECR_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.[\w.-]+/([^:@]+)(?::([^:@]+)|@(sha256:\w+))")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that one command sends, in order, and what it amounts to."""

    job: str
    place: Place
    image: str
    calls: tuple[Call, ...]
    uploads: tuple[Upload, ...] = ()
    kms_key: str | None = None  # of the uploads
    needed_uris: tuple[str, ...] = ()  # S3 objects, and folders with a slash at the end, that must be there before
    machines: str = ""  # such as "2 x ml.g5.xlarge, spot"
    waste: str = ""  # what would be paid for and not used
    machine_hours: float | None = None  # at most; None: no end of its own
    longest: str = ""
    resumes: str = ""
    results: str = ""


def offer(aws: Aws, plan: Plan, *, dry_run: bool, price_per_hour: float | None = None) -> list[dict[str, Any]]:
    """Print the plan, and unless it is a dry run, carry it out; returns the answers of AWS.

    The requests of a dry run go to stdout as one JSON object, everything else to stderr.
    """
    for call in plan.calls:
        check_request("sagemaker", call.operation, call.request)
    print("\n".join(_summary(plan, price_per_hour)), file=sys.stderr)
    if dry_run:
        print(json.dumps({call.operation: call.request for call in plan.calls}, indent=2))
        return []
    look_first(aws, plan)
    return _carry_out(aws, plan)


def look_first(aws: Aws, plan: Plan) -> None:
    """Raise JobError for what would let the job fail minutes later: no bucket, no image, no model."""
    bucket = str(plan.place.bucket)
    answer = _look(aws, "HeadBucket", f"the bucket does not exist; `submit.py setup` makes it: {bucket}", Bucket=bucket)
    if answer.get("BucketRegion", aws.region) != aws.region:
        raise JobError(
            f"the bucket lies in {answer['BucketRegion']}, the job would run in {aws.region}; SageMaker needs both in "
            f"one region: {bucket}"
        )
    for uri in plan.needed_uris:
        _look_for_data(aws, uri, bucket)
    _look_for_image(aws, plan.image, plan.place.account)


def take_back(aws: Aws, calls: Sequence[Call]) -> list[str]:
    """Undo what was made, newest first; returns one sentence for each, also for what had to be left."""
    sentences = []
    for call in reversed(calls):
        assert call.undo, "only the last call of a plan has nothing to undo"
        operation, request = call.undo
        name = next(iter(request.values()))
        try:
            aws.call("sagemaker", operation, **request)
            sentences.append(f"{call.operation} {name} was taken back")
        except AwsError as error:
            by_hand = f"{xform_name(operation, '-')} --{xform_name(next(iter(request)), '-')} {name}"
            sentences.append(f"left behind by {call.operation}: `aws sagemaker {by_hand}` removes it ({error})")
    return sentences


def _carry_out(aws: Aws, plan: Plan) -> list[dict[str, Any]]:
    """Upload, then send; whatever breaks off in between, what is left is said, with the command that removes it."""
    answers: list[dict[str, Any]] = []
    try:
        for upload in plan.uploads:
            sent = send(aws, upload, plan.kms_key)
            there = len(upload.names) - sent
            print(f"sent {_files(sent)}, {there:,} were there already: {upload.uri}", file=sys.stderr)
        for call in plan.calls:
            answers.append(aws.call("sagemaker", call.operation, **call.request))
        return answers
    except AwsError as error:
        left = _what_is_left(aws, plan, len(answers), maybe_done=error.maybe_done)
        raise AwsError("; ".join([str(error), *left]), error.code) from error
    except KeyboardInterrupt:
        print("\n".join(_what_is_left(aws, plan, len(answers), maybe_done=True)), file=sys.stderr)
        raise


def _what_is_left(aws: Aws, plan: Plan, answered: int, *, maybe_done: bool) -> list[str]:
    """Take back what was made, unless the last request may have been carried out on top of it."""
    if maybe_done:
        left = [f"see `submit.py status {plan.job}`, and stop or remove it if it is there"]
    else:
        left = take_back(aws, plan.calls[:answered])
    uris = [upload.uri for upload in plan.uploads]
    return left + [f"uploaded files stay for the next try, `aws s3 rm --recursive {uri}` removes them" for uri in uris]


def _look_for_data(aws: Aws, uri: str, own_bucket: str) -> None:
    """Whether an object is there, or at least one under a prefix; what only the role may see is passed."""
    bucket, key = split_uri(uri)
    if not uri.endswith("/"):
        absent = f"what the job needs is not there; `submit.py status` tells whether the job before has ended: {uri}"
        try:
            _look(aws, "HeadObject", absent, Bucket=bucket, Key=key)
        except AwsError as error:
            if not error.is_forbidden or bucket == own_bucket:
                raise
        return
    try:
        found = aws.call("s3", "ListObjectsV2", Bucket=bucket, Prefix=key, MaxKeys=1)
    except AwsError as error:
        if error.is_forbidden:
            return
        raise AwsError(f"{error}: {uri}", error.code) from None
    if not found.get("KeyCount"):
        raise JobError(f"there is no file in S3 under this name; `aws s3 ls` shows what there is: {uri}")


def _look_for_image(aws: Aws, image: str, own_account: str) -> None:
    """Whether the image is in the registry; images of other registries, and what another account hides, are passed."""
    if not (match := _ECR_IMAGE.fullmatch(image)):
        return
    account, region, repository, tag, digest = match.groups()
    if region != aws.region:
        raise JobError(f"the image lies in {region}, the job would run in {aws.region}; push it there too: {image}")
    which = {"imageTag": tag} if tag else {"imageDigest": digest}
    try:
        aws.call("ecr", "DescribeImages", registryId=account, repositoryName=repository, imageIds=[which])
    except AwsError as error:
        if error.is_forbidden and account != own_account:
            return
        if not error.is_absent:
            raise
        raise AwsError(
            f"the image is not in the registry; push it with `submit.py push`: {image}", error.code
        ) from None


def _look(aws: Aws, operation: str, absent: str, **request: str) -> dict[str, Any]:
    """S3's answer to a look at one thing; raises AwsError with the sentence `absent` if it is not there."""
    try:
        return aws.call("s3", operation, **request)
    except AwsError as error:
        if not error.code:  # nothing was asked yet: no credentials, no region
            raise
        what = "/".join(request.values())
        raise AwsError(absent if error.is_absent else f"{error}: s3://{what}", error.code) from None


def _summary(plan: Plan, price: float | None) -> list[str]:
    """What it amounts to, one `name  value` line each."""
    uploads = [f"{_files(len(up.names))}, {up.size_bytes / 1e6:,.1f} MB to {up.uri}" for up in plan.uploads]
    facts = [
        ("job", plan.job),
        ("runs on", plan.machines),
        ("waste", plan.waste),
        ("longest", plan.longest),
        ("costs", _cost(plan, price)),
        *(("uploads", upload) for upload in uploads),
        ("resumes", plan.resumes),
        ("results", plan.results),
    ]
    return [f"{name:<9}{value}" for name, value in facts if value]


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _cost(plan: Plan, price: float | None) -> str:
    if price is None:
        return ""
    if plan.machine_hours is None:
        return f"{price:g} per machine and hour, until it has ended or is removed"
    less = "; spot is less" if plan.machines.endswith("spot") else ""
    return f"at most {price * plan.machine_hours:,.2f} ({plan.machine_hours:g} machine hours at {price:g}){less}"
