"""The parts that requests of several kinds of jobs share: image, model, tags, VPC. Pure functions of the options."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session

from jobs.checks import pairs
from jobs.common import JobLocation, SecureJobLocation

VARIANT = "all"  # name of an endpoint's production variant

Request = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request to SageMaker, or another service, and the one that undoes it.

    `complete` returns the members that only the response to the call before can give; until then `request` has
    placeholders for them.
    """

    operation: str
    request: Request
    undo: tuple[str, Request] | None = None
    service: str = "sagemaker"
    complete: Callable[[Request], Request] | None = None


def create_model(job: str, location: SecureJobLocation, image: str, artifact: str, environment: str = "") -> Call:
    """Return CreateModel: image and model.tar.gz under one name, for a transform or an endpoint.

    Environment is present even if it is empty, because the local mode of SageMaker's SDK reads it.
    """
    request = {
        "ModelName": job,
        "PrimaryContainer": {"Image": image, "ModelDataUrl": artifact, "Environment": pairs(environment)},
        "ExecutionRoleArn": location.role,
        "EnableNetworkIsolation": location.network_isolation,
        "VpcConfig": vpc(location),
        "Tags": tags(location),
    }
    return Call("CreateModel", given(request), ("DeleteModel", {"ModelName": job}))


def image_uri(location: JobLocation, region: str, tag: str) -> str:
    """Return the address of an image in the ECR repository of the role's account."""
    return f"{registry(location.account, region)}/{location.repository}:{tag}"


def registry(account: str, region: str) -> str:
    """Return the host of an account's ECR registry."""
    return f"{account}.dkr.ecr.{region}.{_partition_of(region).get('dnsSuffix', 'amazonaws.com')}"


def partition(region: str) -> str:
    """Return the partition in every ARN of a region: `aws`, `aws-cn`, ..."""
    return str(_partition_of(region).get("partition", "aws"))


@functools.cache
def _partition_of(region: str) -> dict[str, Any]:
    """Return botocore's description of the partition of a region, empty if there is none."""
    partitions = botocore.session.get_session().get_data("endpoints")["partitions"]
    return next((entry for entry in partitions if re.fullmatch(entry["regionRegex"].strip("^$"), region)), {})


def vpc(location: SecureJobLocation) -> Request | None:
    if not location.subnets:
        return None
    return {"SecurityGroupIds": location.security_groups.split(","), "Subnets": location.subnets.split(",")}


def tags(location: JobLocation) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in pairs(location.tags).items()]


def by_operation(requests: Iterable[tuple[str, Request]]) -> dict[str, Any]:
    """Return requests by their operation; several of one operation as a list."""
    found: dict[str, list[Request]] = {}
    for operation, request in requests:
        found.setdefault(operation, []).append(request)
    return {operation: some if len(some) > 1 else some[0] for operation, some in found.items()}


def given(request: Mapping[str, Any]) -> Request:
    """Return the request without empty members: AWS rejects them, and replaces absent ones by defaults."""
    return {name: value for name, value in request.items() if value not in (None, [], {})}


def seconds(hours: float) -> int:
    return max(1, round(hours * 3600))
