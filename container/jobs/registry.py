"""`submit.py register`: a version of a model in the model registry, with its evaluation as model quality."""

import sys
from dataclasses import dataclass

from jobs.aws import Aws
from jobs.checks import model_problems, name_problems, object_problems
from jobs.common import Connection, DryRun, JobLocation
from jobs.ecr import job_image
from jobs.plan import Plan, submit_plan
from jobs.request_parts import Call, Request, given, tags
from runtime.arguments import option
from sagemaker_limits import NAME_LENGTH

_IMAGE_TYPES = ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif")
_CONTENT_TYPES = [*(f"image/{name}" for name in _IMAGE_TYPES), "application/x-image"]
_RESPONSE_TYPES = ["application/json", "application/jsonlines", "text/csv"]


@dataclass(frozen=True, kw_only=True)
class RegistryOptions:
    """The entry in the model registry."""

    group: str = option("mask-classifier", "model package group; created if it does not exist")
    model: str = option("", "model: a training job, or s3://bucket/key/model.tar.gz")
    evaluation: str = option("", "its evaluation: an evaluation job, or s3://bucket/key/evaluation.json")
    approve: bool = option(False, "approved at once instead of pending manual approval")

    def problems(self) -> list[str]:
        """Return a sentence for each missing or malformed option."""
        problems = name_problems(self.group, flag="group", most=NAME_LENGTH) + model_problems(self.model)
        return problems + object_problems("evaluation", self.evaluation, "an evaluation job", "evaluation.json")


def register(connection: Connection, location: JobLocation, dry_run: DryRun, options: RegistryOptions) -> None:
    """Register a model and print its ARN; the group is created if it does not exist."""
    aws = Aws(connection)
    image = job_image(aws, location)
    calls = [model_package_group(location, options), model_package(location, options, image)]
    if not dry_run.dry_run and _has_group(aws, options.group):
        del calls[0]
        if location.tags:
            print(f"warning: --tags is ignored: group {options.group!r} exists, and its tags count", file=sys.stderr)
    needed = (location.model(options.model), location.evaluation(options.evaluation))
    plan = Plan(
        job=options.group,
        location=location,
        image=image,
        calls=tuple(calls),
        needed_uris=needed,
        check=f"aws sagemaker list-model-packages --model-package-group-name {options.group}",
    )
    responses = submit_plan(aws, plan, dry_run=dry_run.dry_run)
    if responses:
        print(responses[-1]["ModelPackageArn"])


def model_package_group(location: JobLocation, options: RegistryOptions) -> Call:
    """Return CreateModelPackageGroup; its packages share its tags."""
    name: Request = {"ModelPackageGroupName": options.group}
    return Call("CreateModelPackageGroup", given(name | {"Tags": tags(location)}), ("DeleteModelPackageGroup", name))


def model_package(location: JobLocation, options: RegistryOptions, image: str) -> Call:
    """Return CreateModelPackage: a version of the model, with evaluation.json as its quality."""
    quality = {"ContentType": "application/json", "S3Uri": location.evaluation(options.evaluation)}
    specification = {
        "Containers": [{"Image": image, "ModelDataUrl": location.model(options.model)}],
        "SupportedContentTypes": _CONTENT_TYPES,
        "SupportedResponseMIMETypes": _RESPONSE_TYPES,
        "SupportedTransformInstanceTypes": ["ml.g5.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.g5.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"],
    }
    request = {
        "ModelPackageGroupName": options.group,
        "InferenceSpecification": specification,
        "ModelApprovalStatus": "Approved" if options.approve else "PendingManualApproval",
        "ModelMetrics": {"ModelQuality": {"Statistics": quality}},
        "Domain": "COMPUTER_VISION",
        "Task": "IMAGE_CLASSIFICATION",
    }
    return Call("CreateModelPackage", request)


def _has_group(aws: Aws, group: str) -> bool:
    return aws.find("sagemaker", "DescribeModelPackageGroup", ModelPackageGroupName=group) is not None
