"""What an account needs once: a bucket, the role that jobs take on, and the policy of whoever submits them."""

import json
import sys
from pathlib import Path
from string import Template
from typing import Any

from jobs.aws import Aws, AwsError
from jobs.common import Setup
from jobs.instances import partition
from jobs.limits import check_request
from jobs.s3 import split_uri

_POLICIES = Path(__file__).resolve().parents[1] / "iam-policy.json"
_POLICY_NAME = "sagemaker-job"

_LEFT = {  # what stays if a later request fails, for the next try
    "CreateBucket": "the bucket is made and stays, `aws s3 rb s3://{0.bucket}` removes it",
    "CreateRole": "the role is made and stays, `aws iam delete-role --role-name {0.role_name}` removes it",
}

Document = dict[str, Any]


def setup(aws: Aws, options: Setup) -> None:
    """Make the bucket and the role if they are absent, and print the policy of a submitter as JSON.

    With `dry_run`, print the requests instead. The role's policy is written anew each time, so a second run mends it.
    """
    account = options.account or str(aws.call("sts", "GetCallerIdentity")["Account"])
    documents = policies(options, account, aws.region)
    requests = _requests(options, aws.region, documents)
    for (service, operation), request in requests.items():
        if service != "s3":  # whose description does not know every region
            check_request(service, operation, request)
    if options.dry_run:
        shown = {operation: request for (_, operation), request in requests.items()}
        print(json.dumps(shown | {"submitter": documents["submitter"]}, indent=2))
        return
    made: list[str] = []
    for (service, operation), request in requests.items():
        try:
            if _make(aws, service, operation, request):
                made.append(operation)
        except AwsError as error:
            left = [_LEFT[operation].format(options) for operation in made if operation in _LEFT]
            raise AwsError("; ".join([str(error), *left]), error.code) from error
    print(json.dumps(documents["submitter"], indent=2))
    role = f"arn:{partition(aws.region)}:iam::{account}:role/{options.role_name}"
    print(f"above: the policy for whoever submits\nexport SAGEMAKER_ROLE={role}", file=sys.stderr)
    print(f"export SAGEMAKER_BUCKET={options.bucket}", file=sys.stderr)


def policies(options: Setup, account: str, region: str) -> dict[str, Document]:
    """The documents of iam-policy.json for this account: `trust`, `execution_role` and `submitter`."""
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
    }
    as_json = {name: json.dumps(value)[1:-1] for name, value in values.items()}  # a quote stays within its string
    documents: dict[str, Document] = json.loads(Template(_POLICIES.read_text()).substitute(as_json))
    wanted = {"data": bool(options.data), "kms": options.kms_key is not None, "vpc": options.vpc}
    for name in [name for name in documents if "_with_" in name]:
        whose, _, what = name.partition("_with_")
        extra = documents.pop(name)
        if wanted[what]:
            documents[whose]["Statement"] += extra["Statement"]
    return documents


def _requests(options: Setup, region: str, documents: dict[str, Document]) -> dict[tuple[str, str], Document]:
    """Every request by service and operation, in order."""
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    role = {"RoleName": options.role_name}
    return {
        ("s3", "CreateBucket"): {"Bucket": options.bucket} | place,
        ("iam", "CreateRole"): role | {"AssumeRolePolicyDocument": json.dumps(documents["trust"])},
        ("iam", "PutRolePolicy"): role
        | {"PolicyName": _POLICY_NAME, "PolicyDocument": json.dumps(documents["execution_role"])},
    }


def _make(aws: Aws, service: str, operation: str, request: Document) -> bool:
    """Whether it was not there already."""
    try:
        aws.call(service, operation, **request)
        print(f"done: {operation}", file=sys.stderr)
    except AwsError as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "EntityAlreadyExists"):
            raise
        print(f"was there: {operation}", file=sys.stderr)
        return False
    return True
