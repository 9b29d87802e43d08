"""`submit.py setup`: a bucket, the role that jobs assume, and the policy for users who submit jobs."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from jobs.aws import Aws, AwsError
from jobs.checks import bucket_problems, is_s3_folder, prefix_problems
from jobs.common import Connection
from jobs.expiry import ROLE_ENDING
from jobs.limits import check_request
from jobs.request_parts import by_operation, partition
from jobs.s3 import split_uri
from runtime.arguments import folder as from_environment
from runtime.arguments import option

_POLICIES = Path(__file__).resolve().parents[1] / "iam-policy.json"
_POLICY_NAME = "sagemaker-job"

_KEY = re.compile(r"arn:aws[a-z-]*:kms:[\w-]+:\d{12}:key/[\w-]+")
_REMAINS = {  # after a later request has failed
    "CreateBucket": "the new bucket remains, `aws s3 rb s3://{Bucket}` removes it",
    "CreateRole": "the new role remains, `aws iam delete-role --role-name {RoleName}` removes it",
}

Document = dict[str, Any]
Requests = list[tuple[str, str, Document]]  # service, operation, request


@dataclass(frozen=True, kw_only=True)
class SetupOptions:
    """The bucket, the role and the policy."""

    account: str | None = option(None, "account number; default: the account of the credentials")
    bucket: str | None = from_environment("SAGEMAKER_BUCKET", None, "S3 bucket; created if it does not exist")
    role_name: str = option("mask-classifier-sagemaker", "role that jobs assume; created if it does not exist")
    prefix: str = option("mask-classifier", "folder in the bucket that jobs may use")
    repository: str = option("mask-classifier", "ECR repository that jobs may pull from")
    data: str = option("", "S3 folder outside the prefix that jobs may read, s3://bucket/prefix")
    kms_key: str | None = option(None, "ARN of a KMS key that jobs may use")
    vpc: bool = option(False, "permission for jobs to run in a VPC")
    expiry: bool = option(False, "permission for `deploy --expires`, and the role with which endpoints are deleted")
    dry_run: bool = option(False, "print the exact requests as JSON and send nothing")

    def problems(self) -> list[str]:
        """Return a sentence for each missing or malformed option."""
        problems = bucket_problems(self.bucket) + prefix_problems(self.prefix)
        if not re.fullmatch(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", self.repository):
            problems.append(
                f"--repository: {self.repository!r} is not the name of an ECR repository, such as faces/train"
            )
        if self.data and not is_s3_folder(self.data):
            problems.append(f"--data: {self.data!r} is not of the form s3://bucket/prefix")
        if self.kms_key is not None and not _KEY.fullmatch(self.kms_key):
            problems.append(f"--kms-key: {self.kms_key!r} is not of the form arn:aws:kms:region:123456789012:key/id")
        if self.account is not None and not re.fullmatch(r"\d{12}", self.account):
            problems.append(f"--account: {self.account!r} is not a number of 12 digits")
        return problems


def setup_command(connection: Connection, options: SetupOptions) -> None:
    """Set the account up."""
    setup(Aws(connection), options)


def setup(aws: Aws, options: SetupOptions) -> None:
    """Create the bucket and the role if they do not exist, and print the policy for users who submit as JSON.

    With `dry_run`, print the requests instead. The role's policy is written each time, so a second run repairs it.
    """
    account = options.account or str(aws.call("sts", "GetCallerIdentity")["Account"])
    documents = policies(options, account, aws.region)
    requests = _requests(options, aws.region, documents)
    for service, operation, request in requests:
        if service != "s3":  # whose description does not know every region
            check_request(service, operation, request)
    if options.dry_run:
        shown = by_operation((operation, request) for _, operation, request in requests)
        print(json.dumps(shown | {"submitter": documents["submitter"]}, indent=2))
        return
    remains: list[str] = []
    for service, operation, request in requests:
        try:
            if _create(aws, service, operation, request) and operation in _REMAINS:
                remains.append(_REMAINS[operation].format(**request))
        except AwsError as error:
            raise AwsError("; ".join([str(error), *remains]), error.code) from error
    print(json.dumps(documents["submitter"], indent=2))
    role = f"arn:{partition(aws.region)}:iam::{account}:role/{options.role_name}"
    print(f"above: the policy for users who submit jobs\nexport SAGEMAKER_ROLE={role}", file=sys.stderr)
    print(f"export SAGEMAKER_BUCKET={options.bucket}", file=sys.stderr)


def policies(options: SetupOptions, account: str, region: str) -> dict[str, Document]:
    """Return the documents of iam-policy.json for this account: `trust`, `execution_role` and `submitter`.

    With `expiry`, `expiry_trust` and `expiry_role` are those of the role with which endpoints are deleted.
    """
    data_bucket, data_prefix = split_uri(options.data)
    values = {
        "Account": account,
        "Bucket": str(options.bucket),
        "DataBucket": data_bucket,
        "DataPrefix": data_prefix.strip("/"),
        "KmsKey": options.kms_key or "",
        "Partition": partition(region),
        "Prefix": options.prefix,
        "Region": region,
        "Repository": options.repository,
        "Role": options.role_name,
        "RoleEnding": ROLE_ENDING,
    }
    as_json = {name: json.dumps(value)[1:-1] for name, value in values.items()}  # a quote stays within its string
    documents: dict[str, Document] = json.loads(Template(_POLICIES.read_text()).substitute(as_json))
    wanted = {
        "data": bool(options.data),
        "expiry": options.expiry,
        "kms": options.kms_key is not None,
        "vpc": options.vpc,
    }
    if not options.expiry:
        del documents["expiry_trust"], documents["expiry_role"]
    for name in [name for name in documents if "_with_" in name]:
        whose, _, what = name.partition("_with_")
        extra = documents.pop(name)
        if wanted[what]:
            documents[whose]["Statement"] += extra["Statement"]
    return documents


def _requests(options: SetupOptions, region: str, documents: dict[str, Document]) -> Requests:
    """Return all requests in order."""
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    requests = [("s3", "CreateBucket", {"Bucket": options.bucket} | location)]
    requests += _role_requests(options.role_name, documents["trust"], documents["execution_role"])
    if options.expiry:
        name = options.role_name + ROLE_ENDING
        requests += _role_requests(name, documents["expiry_trust"], documents["expiry_role"])
    return requests


def _role_requests(name: str, trust: Document, policy: Document) -> Requests:
    """Return CreateRole and PutRolePolicy."""
    role = {"RoleName": name}
    return [
        ("iam", "CreateRole", role | {"AssumeRolePolicyDocument": json.dumps(trust)}),
        ("iam", "PutRolePolicy", role | {"PolicyName": _POLICY_NAME, "PolicyDocument": json.dumps(policy)}),
    ]


def _create(aws: Aws, service: str, operation: str, request: Document) -> bool:
    """Create the resource; return False if it already existed."""
    try:
        aws.call(service, operation, **request)
        print(f"done: {operation}", file=sys.stderr)
    except AwsError as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "EntityAlreadyExists"):
            raise
        print(f"exists already: {operation}", file=sys.stderr)
        return False
    return True
