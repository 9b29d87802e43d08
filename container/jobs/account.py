"""`submit.py setup`: a bucket, the role that jobs assume, and the policy for users who submit jobs."""

import hashlib
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
from runtime.errors import ConfigError

_POLICIES = Path(__file__).resolve().parents[1] / "iam-policy.json"

_KEY = re.compile(r"arn:aws[a-z-]*:kms:[\w-]+:\d{12}:key/[\w-]+")
_REMAINS = {  # after a later request has failed
    "CreateBucket": "the new bucket remains, `aws s3 rb s3://{Bucket}` removes it",
    "CreateRole": "the new role remains, `aws iam delete-role --role-name {RoleName}` removes it",
    "PutRolePolicy": (
        "the new role has a policy, `aws iam delete-role-policy --role-name {RoleName} --policy-name {PolicyName}` "
        "removes it"
    ),
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

    With `dry_run`, print the requests instead. The policies of the role are written each time, so a second run repairs
    them. Each has a name of its own, so a run with other options adds to the role and takes nothing away.
    """
    account = _account(aws, options)
    documents = policies(options, account, aws.region)
    requests = _requests(options, account, aws.region, documents)
    for service, operation, request in requests:
        if service != "s3":  # whose description does not know every region
            check_request(service, operation, request)
    if options.dry_run:
        shown = by_operation((operation, request) for _, operation, request in requests)
        print(json.dumps(shown | {"submitter": documents["submitter"]}, indent=2))
        return
    _carry_out(aws, requests)
    print(json.dumps(documents["submitter"], indent=2))
    print("\n".join(_next_steps(options, account, aws.region, documents["submitter"])), file=sys.stderr)


def _account(aws: Aws, options: SetupOptions) -> str:
    """Return the account; raise ConfigError for one that the credentials are not of, except in a dry run."""
    if options.account and options.dry_run:
        return options.account
    theirs = aws.call("sts", "GetCallerIdentity").get("Account", options.account)
    if options.account not in (None, theirs):
        raise ConfigError(
            f"--account: {options.account}, but the credentials are of account {theirs}, where everything would be "
            "created; leave it out, or name their --profile"
        )
    return str(theirs)


def policies(options: SetupOptions, account: str, region: str) -> dict[str, Document]:
    """Return the documents of iam-policy.json for this account: `trust`, `execution_role` and `submitter`.

    `execution_role_with_data`, `_with_kms` and `_with_vpc` are there if they are asked for, those of the submitter are
    in `submitter`. With `expiry`, `expiry_trust` and `expiry_role` are those of the role with which endpoints are
    deleted.
    """
    values = _values(options, account, region)
    as_json = {name: json.dumps(value)[1:-1] for name, value in values.items()}  # a quote stays within its string
    documents: dict[str, Document] = {
        name: json.loads(template.substitute(as_json))
        for name, template in _templates().items()
        if _is_wanted(name, options)
    }
    for name in [name for name in documents if name.startswith("submitter_with_")]:
        documents["submitter"]["Statement"] += documents.pop(name)["Statement"]
    return documents


def policy_name(document: str, options: SetupOptions, account: str, region: str) -> str:
    """Return the name of a document of iam-policy.json as an inline policy of a role.

    It has a digest of the bucket, key, region, ... in the document: that for another one is another policy.
    """
    values = _values(options, account, region)
    used = [(name, values[name]) for name in sorted(_templates()[document].get_identifiers())]
    what = document.partition("_with_")[2]
    return "-".join(["sagemaker-job", *([what] if what else []), _digest(used)])


def _templates() -> dict[str, Template]:
    return {name: Template(json.dumps(document)) for name, document in json.loads(_POLICIES.read_text()).items()}


def _is_wanted(document: str, options: SetupOptions) -> bool:
    extras = {
        "data": bool(options.data),
        "expiry": options.expiry,
        "kms": options.kms_key is not None,
        "vpc": options.vpc,
    }
    what = "expiry" if document.startswith("expiry_") else document.partition("_with_")[2]
    return not what or extras[what]


def _values(options: SetupOptions, account: str, region: str) -> dict[str, str]:
    """Return what the placeholders of iam-policy.json stand for."""
    data_bucket, data_prefix = split_uri(options.data)
    return {
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


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _requests(options: SetupOptions, account: str, region: str, documents: dict[str, Document]) -> Requests:
    """Return all requests in order: the bucket, each role, and each of its policies."""
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    requests: Requests = [("s3", "CreateBucket", {"Bucket": options.bucket} | location)]
    for trust, policy, ending in (("trust", "execution_role", ""), ("expiry_trust", "expiry_role", ROLE_ENDING)):
        if trust not in documents:
            continue
        role = {"RoleName": options.role_name + ending}
        requests.append(("iam", "CreateRole", role | {"AssumeRolePolicyDocument": json.dumps(documents[trust])}))
        for name in [name for name in documents if name.startswith(policy)]:
            inline = {
                "PolicyName": policy_name(name, options, account, region),
                "PolicyDocument": json.dumps(documents[name]),
            }
            requests.append(("iam", "PutRolePolicy", role | inline))
    return requests


def _explain(error: AwsError, request: Document) -> str:
    """Return the error as a sentence; that a role has too many policies is one of our own."""
    if error.code not in ("LimitExceeded", "LimitExceededException") or "PolicyName" not in request:
        return str(error)
    role = f"--role-name {request['RoleName']}"
    return (
        f"role {request['RoleName']!r} has no room for the policy {request['PolicyName']}, IAM allows 10,240 "
        f"characters in all; `aws iam list-role-policies {role}` lists its policies, and `aws iam delete-role-policy "
        f"{role} --policy-name NAME` deletes one that is not needed any more"
    )


def _next_steps(options: SetupOptions, account: str, region: str, submitter: Document) -> list[str]:
    """Return how the policy of those who submit is attached, beside those of earlier runs, and what they export."""
    iam = f"arn:{partition(region)}:iam::{account}"
    name = f"{options.role_name}-submitter-{_digest(submitter)}"
    return [
        "above: the policy for users who submit jobs; save it as submitter.json, and attach it for each of them:",
        f"aws iam create-policy --policy-name {name} --policy-document file://submitter.json",
        f"aws iam attach-user-policy --user-name NAME --policy-arn {iam}:policy/{name}",
        "they need:",
        f"export SAGEMAKER_ROLE={iam}:role/{options.role_name}",
        f"export SAGEMAKER_BUCKET={options.bucket}",
    ]


def _carry_out(aws: Aws, requests: Requests) -> None:
    """Send the requests; an error names what this run has created, in the order in which it can be removed."""
    remains, new_roles = list[str](), set[str]()
    for service, operation, request in requests:
        try:
            is_new = _create(aws, service, operation, request)
        except AwsError as error:
            raise AwsError("; ".join([_explain(error, request), *reversed(remains)]), error.code) from error
        if operation == "CreateRole" and is_new:
            new_roles.add(request["RoleName"])
        if is_new and (operation != "PutRolePolicy" or request["RoleName"] in new_roles):
            remains.append(_REMAINS[operation].format(**request))


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
