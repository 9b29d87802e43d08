"""The requests about a trained model: transform, endpoint, registry. Pure functions of the options."""

from jobs.checks import pairs
from jobs.common import JobPlace, Place
from jobs.instances import Call, Request, evaluation_uri, given, has_gpu, has_local_disk, model_uri, tags, vpc
from jobs.job_options import Deployment, Registration, Transform

_CONTENT_TYPES = ["image/jpeg", "image/png", "image/webp", "image/bmp", "application/x-image"]
_ANSWER_TYPES = ["application/json", "application/jsonlines", "text/csv"]


def model(job: str, place: JobPlace, image: str, artifact: str, environment: str) -> Call:
    """CreateModel: image and model.tar.gz under one name, for a transform or an endpoint.

    Environment is there even when it is empty: the local mode of SageMaker's SDK looks for it.
    """
    request = {
        "ModelName": job,
        "PrimaryContainer": {"Image": image, "ModelDataUrl": artifact, "Environment": pairs(environment)},
        "ExecutionRoleArn": place.role,
        "EnableNetworkIsolation": place.network_isolation,
        "VpcConfig": vpc(place),
        "Tags": tags(place),
    }
    return Call("CreateModel", given(request), ("DeleteModel", {"ModelName": job}))


def transform_job(job: str, place: JobPlace, options: Transform, data: str) -> Call:
    """CreateTransformJob: every object under `data` is one image and gets one answer.

    BatchStrategy is always given: what the container proposes is spelled differently by the service and by the SDK's
    local mode. TransformAmiVersion, because the default driver of GPU hosts (470) is too old for CUDA 12.
    """
    key = None if has_local_disk(options.instance_type) else place.kms_key
    resources = {
        "InstanceType": options.instance_type,
        "InstanceCount": options.instance_count,
        "TransformAmiVersion": options.ami_version if has_gpu(options.instance_type) else None,
        "VolumeKmsKeyId": key,
    }
    output = {
        "S3OutputPath": place.uri("transform", job),
        "Accept": options.accept,
        "AssembleWith": "None",
        "KmsKeyId": place.kms_key,
    }
    request = {
        "TransformJobName": job,
        "ModelName": job,
        "BatchStrategy": "SingleRecord",
        "MaxConcurrentTransforms": options.concurrency,
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
        "Tags": tags(place),
    }
    return Call("CreateTransformJob", given(request), ("StopTransformJob", {"TransformJobName": job}))


def endpoint(job: str, place: JobPlace, options: Deployment) -> list[Call]:
    """CreateEndpointConfig and CreateEndpoint for the model of the same name."""
    variant = {
        "VariantName": "all",
        "ModelName": job,
        "InstanceType": options.instance_type,
        "InitialInstanceCount": options.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": options.startup_seconds,
        "InferenceAmiVersion": options.ami_version if has_gpu(options.instance_type) else None,
    }
    key = None if has_local_disk(options.instance_type) else place.kms_key
    config = {
        "EndpointConfigName": job,
        "ProductionVariants": [given(variant)],
        "KmsKeyId": key,
        "Tags": tags(place),
    }
    request = {"EndpointName": job, "EndpointConfigName": job, "Tags": tags(place)}
    return [
        Call("CreateEndpointConfig", given(config), ("DeleteEndpointConfig", {"EndpointConfigName": job})),
        Call("CreateEndpoint", given(request), ("DeleteEndpoint", {"EndpointName": job})),
    ]


def model_package_group(place: Place, options: Registration) -> Call:
    """CreateModelPackageGroup; its packages share its tags."""
    name: Request = {"ModelPackageGroupName": options.group}
    return Call("CreateModelPackageGroup", given(name | {"Tags": tags(place)}), ("DeleteModelPackageGroup", name))


def model_package(place: Place, options: Registration, image: str) -> Call:
    """CreateModelPackage: a version of the model, with evaluation.json as its quality."""
    quality = {"ContentType": "application/json", "S3Uri": evaluation_uri(place, options.evaluation)}
    specification = {
        "Containers": [{"Image": image, "ModelDataUrl": model_uri(place, options.model)}],
        "SupportedContentTypes": _CONTENT_TYPES,
        "SupportedResponseMIMETypes": _ANSWER_TYPES,
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
