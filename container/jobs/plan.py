"""From requests to a running job: check them offline, print the plan, check what they need, upload, send."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from data.listing import describe_names
from jobs.aws import Aws, AwsError, passing_errors
from jobs.common import JobLocation, SubmitOptions
from jobs.ecr import LITE
from jobs.limits import check_request
from jobs.request_parts import Call, by_operation
from jobs.s3 import MISSING_FILE, Upload, send, split_uri
from jobs.watch import wait
from runtime.errors import JobError

Response = dict[str, Any]

_ECR_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.[\w.-]+/([^:@]+)(?::([^:@]+)|@(sha256:\w+))")
_NEXT_COMMANDS = {"CreateEndpoint": "wait logs remove", "CreateHyperParameterTuningJob": "wait download stop"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The uploads and requests of one command, in order, and what they amount to."""

    job: str
    location: JobLocation
    image: str
    calls: tuple[Call, ...]
    uploads: tuple[Upload, ...] = ()
    kms_key: str | None = None  # of the uploads
    needed_uris: tuple[str, ...] = ()  # S3 objects, and folders with a slash at the end, that must exist
    instances: str = ""  # such as "2 x ml.g5.xlarge, spot"
    waste: str = ""  # what would be paid for and not used
    encryption: str = ""  # what a given key does not encrypt
    instance_hours: float | None = None  # at most; None without a time limit
    longest: str = ""
    resumes: str = ""
    results: str = ""
    more: tuple[tuple[str, str], ...] = ()  # further lines of the summary: name, value
    then: tuple[Call, ...] = ()  # what the endpoint gets once it is in service
    are_independent: bool = False  # the calls, each of which is a job
    check: str = ""  # command that shows whether a request succeeded; default: `submit.py status` of its name


def submit_job(aws: Aws, plan: Plan, options: SubmitOptions) -> None:
    """Submit the plan; print the job's name to stdout, for scripts, and the next commands to stderr."""
    submit_plan(aws, plan, dry_run=options.dry_run, price_per_hour=options.price_per_hour)
    if options.dry_run:
        return
    print(plan.job, flush=True)
    commands = _NEXT_COMMANDS.get(plan.calls[-1].operation, "logs wait download stop").split()
    print("next: submit.py " + " | ".join(f"{command} {plan.job}" for command in commands), file=sys.stderr)
    if options.wait or plan.then:
        wait(aws, plan.job, options.poll_seconds)
    if plan.then:
        _send_later(aws, plan)


def submit_plan(aws: Aws, plan: Plan, *, dry_run: bool, price_per_hour: float | None = None) -> list[Response]:
    """Print the plan and, unless it is a dry run, carry it out; return the responses of AWS.

    The requests of a dry run go to stdout as one JSON object, everything else to stderr. Raises ConfigError for a
    request that AWS would reject, JobError if something that the job needs does not exist.
    """
    calls = (*plan.calls, *plan.then)
    for call in calls:
        check_request(call.service, call.operation, call.request)
    print("\n".join(_summary(plan, price_per_hour)), file=sys.stderr)
    if dry_run:
        print(json.dumps(by_operation((call.operation, call.request) for call in calls), indent=2))
        return []
    preflight(aws, plan)
    return _carry_out(aws, plan)


def preflight(aws: Aws, plan: Plan) -> None:
    """Raise JobError for what would fail the job minutes later: no bucket, no image, no model."""
    _check_account(aws, plan.location.account)
    bucket = str(plan.location.bucket)
    missing = f"the bucket does not exist; `submit.py setup` creates it: {bucket}"
    _check_region(aws, bucket, _head(aws, "HeadBucket", missing, Bucket=bucket))
    for uri in plan.needed_uris:
        _check_data(aws, uri, bucket)
    for other in sorted({split_uri(uri)[0] for uri in plan.needed_uris} - {bucket}):
        try:
            _check_region(aws, other, aws.call("s3", "HeadBucket", Bucket=other))
        except AwsError as error:
            if not error.is_forbidden:
                raise
    check_image(aws, plan.image, plan.location.account)


def roll_back(aws: Aws, calls: Sequence[Call]) -> list[str]:
    """Undo the calls, newest first; return a sentence for each, with the command that removes what remains."""
    sentences = []
    for call in reversed(calls):
        assert call.undo, "only the last call of a plan cannot be undone"
        operation, request = call.undo
        name = _name(call)
        try:
            aws.call(call.service, operation, **request)
            sentences.append(f"{call.operation} {name} was rolled back")
        except AwsError as error:
            options = [f"--{xform_name(member, '-')} {_as_word(value)}" for member, value in request.items()]
            by_hand = " ".join(["aws", call.service, xform_name(operation, "-"), *options])
            sentences.append(f"{call.operation} {name} remains: `{by_hand}` removes it ({error})")
    return sentences


def _carry_out(aws: Aws, plan: Plan) -> list[Response]:
    """Upload, then send the requests; on failure roll back and report what remains."""
    responses: list[Response] = []
    try:
        for upload in plan.uploads:
            sent = send(aws, upload, plan.kms_key)
            known = len(upload.names) - sent
            print(f"uploaded {_files(sent)}, {known:,} already there: {upload.uri}", file=sys.stderr)
        for call in plan.calls:
            responses.append(_send(aws, call, responses))
        return responses
    except AwsError as error:
        remains = _clean_up(aws, plan, len(responses), maybe_done=error.maybe_done)
        raise AwsError("; ".join([str(error), *remains]), error.code) from error
    except KeyboardInterrupt:
        print("\n".join(_clean_up(aws, plan, len(responses), maybe_done=True)), file=sys.stderr)
        raise


def _send(aws: Aws, call: Call, responses: Sequence[Response]) -> Response:
    """Send one request, completed from the response before it."""
    completed = call.complete(responses[-1]) if call.complete else {}
    return aws.call(call.service, call.operation, **(call.request | completed))


def _send_later(aws: Aws, plan: Plan) -> None:
    """Send what an endpoint in service gets; on failure roll back, and say that the endpoint runs without it."""
    responses: list[Response] = []
    running = (
        f"the endpoint {plan.job} runs without scaling, which costs: `submit.py remove {plan.job}` removes everything"
    )
    try:
        for call in plan.then:
            responses.append(_send(aws, call, responses))
    except AwsError as error:
        remains = roll_back(aws, plan.then[: len(responses)])
        raise AwsError("; ".join([str(error), *remains, running]), error.code) from error
    except KeyboardInterrupt:
        print(running, file=sys.stderr)
        raise


def _clean_up(aws: Aws, plan: Plan, answered: int, *, maybe_done: bool) -> list[str]:
    """Roll back, unless the last request may have succeeded and needs what was created before; return sentences."""
    remains = []
    if maybe_done:
        check = plan.check or f"submit.py status {_name(plan.calls[min(answered, len(plan.calls) - 1)])}"
        remains.append(f"see `{check}`, and stop or remove it if it exists")
    if plan.are_independent or not maybe_done:
        remains += roll_back(aws, plan.calls[:answered])
    for upload in plan.uploads:
        by_hand = f"`aws s3 rm --recursive {upload.uri}` removes them"
        remains.append(f"uploaded files remain for the next attempt, {by_hand}")
    return remains


def _check_account(aws: Aws, account: str) -> None:
    """Raise AwsError for credentials that are wrong or have expired, which S3 does not say of HEAD requests.

    Raises JobError if they are those of another account than the role's. Where STS cannot be reached, neither is known.
    """
    with passing_errors(lambda _: None):
        theirs = aws.call("sts", "GetCallerIdentity").get("Account", account)
        if theirs != account:
            raise JobError(
                f"the credentials are of account {theirs} and the --role is of account {account}, which SageMaker "
                "rejects; check the --profile and the --role"
            )


def _check_region(aws: Aws, bucket: str, head: Response) -> None:
    """Raise JobError for a bucket in another region, from the response to HeadBucket."""
    if head.get("BucketRegion", aws.region) != aws.region:
        raise JobError(
            f"the bucket is in {head['BucketRegion']} and the job would run in {aws.region}; SageMaker needs both in "
            f"one region: {bucket}"
        )


def _check_data(aws: Aws, uri: str, own_bucket: str) -> None:
    """Raise JobError if an object, or every object under a prefix, is missing; ignore what only the role may read."""
    bucket, key = split_uri(uri)
    if not uri.endswith("/"):
        try:
            _head(aws, "HeadObject", f"{MISSING_FILE}: {uri}", Bucket=bucket, Key=key)
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
        raise JobError(f"there is no file in S3 under this name; `aws s3 ls` lists the files: {uri}")


def check_image(aws: Aws, image: str, own_account: str) -> None:
    """Raise JobError if an image is not in ECR; ignore other registries, and accounts that deny the request."""
    if not (match := _ECR_IMAGE.fullmatch(image)):
        return
    account, region, repository, tag, digest = match.groups()
    if region != aws.region:
        raise JobError(f"the image is in {region} and the job would run in {aws.region}; push it there too: {image}")
    which = {"imageTag": tag} if tag else {"imageDigest": digest}
    try:
        aws.call("ecr", "DescribeImages", registryId=account, repositoryName=repository, imageIds=[which])
    except AwsError as error:
        if error.is_forbidden and account != own_account:
            return
        if not error.is_absent:
            raise
        how = "`make image-lite` and `submit.py push --lite`" if str(tag).endswith(LITE) else "`submit.py push`"
        raise AwsError(f"the image is not in the registry; push it with {how}: {image}", error.code) from None


def _head(aws: Aws, operation: str, missing: str, **request: str) -> Response:
    """Return S3's response to a HEAD request; raise AwsError with the sentence `missing` for a 404."""
    try:
        return aws.call("s3", operation, **request)
    except AwsError as error:
        if not error.code:  # no request was sent: no credentials, no region
            raise
        what = "/".join(request.values())
        raise AwsError(missing if error.is_absent else f"{error}: s3://{what}", error.code) from None


def _summary(plan: Plan, price: float | None) -> list[str]:
    """Return what the plan amounts to, one `name  value` line each."""
    uploads = [f"{_files(len(up.names))}, {up.size_bytes / 1e6:,.1f} MB to {up.uri}" for up in plan.uploads]
    facts = [
        ("job", plan.job),
        ("runs on", plan.instances),
        ("waste", plan.waste),
        ("key", plan.encryption),
        ("longest", plan.longest),
        ("costs", _cost(plan, price)),
        *(("uploads", upload) for upload in uploads),
        *(("ignored", f"{why}: {describe_names(names)}") for up in plan.uploads for why, names in up.ignored.items()),
        ("resumes", plan.resumes),
        ("results", plan.results),
        *plan.more,
    ]
    return [f"{name:<9}{value}" for name, value in facts if value]


def _name(call: Call) -> str:
    """Return the name of what a call creates and another one would delete or stop."""
    assert call.undo, "a call that cannot be undone has no name"
    return _as_word(next(iter(call.undo[1].values())))


def _as_word(value: Any) -> str:
    """Return a member of a request as words of AWS's command line."""
    return " ".join(value) if isinstance(value, list) else str(value)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _cost(plan: Plan, price: float | None) -> str:
    if price is None:
        return ""
    if plan.instance_hours is None:
        return f"{price:g} per instance and hour, until the job has ended or the endpoint is removed"
    less = "; spot costs less" if plan.instances.endswith("spot") else ""
    return f"at most {price * plan.instance_hours:,.2f} ({plan.instance_hours:g} instance hours at {price:g}){less}"
