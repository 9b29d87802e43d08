"""Locations of jobs, and the check that AWS accepts a request."""

from dataclasses import replace
from typing import Any, Protocol

from jobs.common import SecureJobLocation
from jobs.limits import check_request
from jobs.request_parts import Call

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mask-classifier:abc"
LOCATION = SecureJobLocation(role=ROLE, bucket="my-bucket")
SECURED = replace(
    LOCATION,
    kms_key="arn:aws:kms:eu-west-1:123456789012:key/abc",
    subnets="subnet-1,subnet-2",
    security_groups="sg-1",
    tags="team=vision",
)
LOCATIONS = (LOCATION, SECURED, replace(LOCATION, network_isolation=False, tags="team=vision,a=1"))
TAGS = [{"Key": "team", "Value": "vision"}]
VPC = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}


class DryRunCommand(Protocol):
    """Run a command of submit.py with --dry-run; return its requests and what it printed to stderr."""

    def __call__(self, command: str, *words: str) -> tuple[dict[str, Any], str]: ...


def checked(call: Call) -> dict[str, Any]:
    """Return the request of a call, after a check that AWS accepts it and the one that undoes it."""
    check_request(call.service, call.operation, call.request)
    if call.undo:
        check_request(call.service, *call.undo)
    return call.request
