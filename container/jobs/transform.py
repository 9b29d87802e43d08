"""`submit.py transform`: a batch transform, which gets a prediction for each image of a folder."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.aws import Aws, AwsError
from jobs.checks import data_problems, pairs
from jobs.common import Connection, SecureJobLocation, SubmitOptions, unique_name
from jobs.inputs import existing_inputs, resolve_images
from jobs.instances import describe_instances, encryption, volume_key, waste
from jobs.plan import Plan, submit_job
from jobs.request_parts import Call, create_model, given, tags
from jobs.s3 import Upload, list_objects, split_uri
from jobs.served_model import ServedModelOptions, served_model
from runtime.arguments import option
from runtime.errors import DataError
from sagemaker_limits import (
    BATCH_TRANSFORM_MB,
    DEFAULT_PAYLOAD_MB,
    INVOCATION_RETRIES,
    INVOCATION_SECONDS,
    TRANSFORM_VARIABLES,
)


@dataclass(frozen=True, kw_only=True)
class TransformOptions(ServedModelOptions):
    """The batch transform."""

    data: str = option("", "images: a folder, whose images are uploaded, or s3://bucket/prefix")
    max_concurrent_transforms: int = option(
        16, "requests in flight to one instance", minimum=1, old_names=("concurrency",)
    )
    max_payload_mb: int = option(
        DEFAULT_PAYLOAD_MB, "maximum size of an image, in MB", minimum=1, maximum=BATCH_TRANSFORM_MB
    )
    timeout_seconds: int = option(600, "timeout of one request", minimum=1, maximum=INVOCATION_SECONDS)
    max_retries: int = option(3, "retries of one request", minimum=0, maximum=INVOCATION_RETRIES)
    accept: str = option(
        "application/json", "format of the responses", choices=("application/json", "application/jsonlines")
    )
    environment: str = option("", f"name=value,... set in the container, at most {TRANSFORM_VARIABLES}")

    default_ami = "al2-ami-sagemaker-batch-gpu-535"

    def problems(self) -> list[str]:
        """Return a sentence for each missing option and for each that does not fit another one."""
        problems = super().problems() + data_problems("data", self.data)
        if (product := self.max_concurrent_transforms * self.max_payload_mb) > BATCH_TRANSFORM_MB:
            problems.append(
                f"--max-concurrent-transforms {self.max_concurrent_transforms} x --max-payload-mb "
                f"{self.max_payload_mb} is {product} MB, at most {BATCH_TRANSFORM_MB} MB are allowed; lower one of them"
            )
        return problems


def transform(
    connection: Connection, location: SecureJobLocation, submit: SubmitOptions, options: TransformOptions
) -> None:
    """Submit a batch transform, and the model that it needs."""
    aws, job = Aws(connection), unique_name(options.name)
    data, uploads = resolve_images(location, "data", options.data)
    check_payload(uploads, options.max_payload_mb)
    if not uploads and not submit.dry_run:
        check_objects(aws, data, options.max_payload_mb)
    with served_model(aws, location, options, dry_run=submit.dry_run) as (image, archive):
        plan = Plan(
            job=job,
            location=location,
            image=image,
            calls=(create_model(job, location, image, archive.uri), transform_job(job, location, options, data)),
            uploads=(*uploads, *archive.uploads),
            kms_key=location.kms_key,
            encryption=encryption(options.instance, location.kms_key),
            needed_uris=(*archive.needed_uris, *existing_inputs([data], uploads)),
            instances=describe_instances(options.instance, options.instance_count),
            waste=waste(options.instance),
            longest="until every image has a response: a transform has no time limit of its own",
            results=location.uri("transform", job) + "/",
        )
        submit_job(aws, plan, submit)


def transform_job(job: str, location: SecureJobLocation, options: TransformOptions, data: str) -> Call:
    """Return CreateTransformJob: every object under `data` is one image and gets one response.

    BatchStrategy is always given, because the service and the SDK's local mode spell the container's proposal
    differently. TransformAmiVersion is given because the default driver of GPU instances (470) is too old for CUDA 12.
    """
    resources = {
        "InstanceType": options.instance,
        "InstanceCount": options.instance_count,
        "TransformAmiVersion": options.ami,
        "VolumeKmsKeyId": volume_key(options.instance, location.kms_key),
    }
    output = {
        "S3OutputPath": location.uri("transform", job),
        "Accept": options.accept,
        "AssembleWith": "None",
        "KmsKeyId": location.kms_key,
    }
    request = {
        "TransformJobName": job,
        "ModelName": job,
        "BatchStrategy": "SingleRecord",
        "MaxConcurrentTransforms": options.max_concurrent_transforms,
        "MaxPayloadInMB": options.max_payload_mb,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": options.timeout_seconds,
            "InvocationsMaxRetries": options.max_retries,
        },
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
            "ContentType": "application/x-image",
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": given(output),
        "TransformResources": given(resources),
        "Environment": pairs(options.environment),
        "Tags": tags(location),
    }
    return Call("CreateTransformJob", given(request), ("StopTransformJob", {"TransformJobName": job}))


def check_payload(uploads: Sequence[Upload], max_payload_mb: int) -> None:
    """Raise DataError for an image that is too large for a request."""
    for upload in uploads:
        for name in upload.names:
            _check_size((upload.root / name).stat().st_size, upload.root / name, max_payload_mb)


def check_objects(aws: Aws, uri: str, max_payload_mb: int) -> None:
    """Raise DataError for an object under a prefix that is too large for a request, which would fail the job.

    What AWS does not list is not checked: perhaps the role may, and else the preflight says why.
    """
    with contextlib.suppress(AwsError):
        for entry in list_objects(aws, uri):
            _check_size(entry["Size"], f"s3://{split_uri(uri)[0]}/{entry['Key']}", max_payload_mb)


def _check_size(size: int, image: object, max_payload_mb: int) -> None:
    if size > max_payload_mb * 2**20:
        raise DataError(
            f"an image has {size / 2**20:.1f} MB, more than --max-payload-mb {max_payload_mb}; raise it, and lower "
            f"--max-concurrent-transforms: {image}"
        )
