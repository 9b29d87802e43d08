"""What the requests of all kinds of jobs are built from: places in S3, the image, tags, the network.

Where things lie under s3://BUCKET/PREFIX/:

    data/FOLDER-DIGEST/                     what was uploaded
    checkpoints/JOB/                        of the training job, and of those that go on from it
    training/JOB/output/model.tar.gz        the model; output.tar.gz beside it: report, metrics, split
    transform/JOB/IMAGE.out               one answer for each image
    evaluation/JOB/evaluation.json          metrics of an evaluation
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session

from jobs.checks import pairs
from jobs.common import JobPlace, Place

Request = dict[str, Any]

_GPU = re.compile(r"ml\.(g\d|p\d)")
_SEVERAL_GPUS = re.compile(
    r"ml\.(g[\w-]+\.(12|24|48)xlarge|p2\.(8|16)xlarge|p3\.(8|16)xlarge|p[3-9][\w-]*\.(24|36|48)xlarge)"
)
_OTHER_CHIP = re.compile(r"ml\.(p2|trn\w+|inf\d)\.")  # older than torch's wheels, or no GPU at all
_LOCAL_DISK = re.compile(r"ml\.(g[4-9]\w*|p3dn|p[4-9][\w-]*|trn\w+|[cmr]\d\w*d)\.")  # encrypted by its own hardware


@dataclass(frozen=True)
class Call:
    """One request, and the one that takes back what it made."""

    operation: str
    request: Request
    undo: tuple[str, Request] | None = None


def image_uri(place: Place, region: str, tag: str) -> str:
    """The image in the account's registry, or the one that was asked for."""
    return place.image or f"{registry(place.account, region)}/{place.repository}:{tag}"


def registry(account: str, region: str) -> str:
    """Host of an account's ECR registry."""
    return f"{account}.dkr.ecr.{region}.{_partition_of(region).get('dnsSuffix', 'amazonaws.com')}"


def partition(region: str) -> str:
    """What stands second in every ARN of a region: `aws`, `aws-cn`, ..."""
    return str(_partition_of(region).get("partition", "aws"))


@functools.cache
def _partition_of(region: str) -> dict[str, Any]:
    """What botocore knows of the partition that a region belongs to; nothing if it knows none."""
    partitions = botocore.session.get_session().get_data("endpoints")["partitions"]
    return next((entry for entry in partitions if re.fullmatch(entry["regionRegex"].strip("^$"), region)), {})


def model_uri(place: Place, model: str) -> str:
    """Where a training job of this place leaves its model, or the model.tar.gz that was asked for."""
    return model if model.startswith("s3://") else place.uri("training", model, "output", "model.tar.gz")


def evaluation_uri(place: Place, evaluation: str) -> str:
    """Where an evaluation job of this place leaves evaluation.json, or the file that was asked for."""
    return evaluation if evaluation.startswith("s3://") else place.uri("evaluation", evaluation, "evaluation.json")


def vpc(place: JobPlace) -> Request | None:
    if not place.subnets:
        return None
    return {"SecurityGroupIds": place.security_groups.split(","), "Subnets": place.subnets.split(",")}


def tags(place: Place) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in pairs(place.tags).items()]


def given(request: Mapping[str, Any]) -> Request:
    """Leave out what was not asked for: AWS reads an absent member as its default, and refuses an empty one."""
    return {name: value for name, value in request.items() if value not in (None, [], {})}


def has_gpu(instance_type: str) -> bool:
    return bool(_GPU.match(instance_type))


def has_several_gpus(instance_type: str) -> bool:
    """Whether most of what the machine costs would stand idle: every verb uses one GPU."""
    return bool(_SEVERAL_GPUS.fullmatch(instance_type))


def has_other_chip(instance_type: str) -> bool:
    """Whether there is an accelerator that this image cannot use."""
    return bool(_OTHER_CHIP.match(instance_type))


def has_local_disk(instance_type: str) -> bool:
    """Whether the volume is the machine's own: SageMaker then refuses a VolumeKmsKeyId."""
    return bool(_LOCAL_DISK.match(instance_type))


def seconds(hours: float) -> int:
    return max(1, round(hours * 3600))
