"""`submit.py evaluate`: a processing job that compares predictions with the ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.predictions import read_predictions
from data.tables import GT_CSV, OUTPUT_CSV, SCHEME_JSON
from jobs.aws import Aws
from jobs.checks import data_problems, name_problems
from jobs.common import Connection, SecureJobLocation, SubmitOptions, Words, unique_name
from jobs.ecr import job_image
from jobs.inputs import existing_inputs, resolve_input
from jobs.instances import describe_instances, encryption, volume_key
from jobs.plan import Plan, submit_job
from jobs.request_parts import Call, Request, given, seconds, tags, vpc
from runtime.arguments import option
from sagemaker_limits import PROCESSING_HOURS, VOLUME_GB

_PROCESSING = "/opt/ml/processing"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The processing job; flags of code/evaluation.py follow after `--`."""

    name: str = option("mask-classifier", "name of the job; the time is appended")
    predictions: str = option("", "folder with output.csv, which is uploaded, or s3://bucket/prefix")
    ground_truth: str = option("", "folder with gt.csv, which is uploaded, or s3://bucket/prefix")
    instance_type: str = option("ml.m5.large", "instance type; no GPU is needed")
    max_hours: float = option(1.0, "maximum time", above=0, maximum=PROCESSING_HOURS)
    volume_gb: int = option(30, "disk, in GB", minimum=1, maximum=VOLUME_GB)

    def problems(self) -> list[str]:
        """Return a sentence for each missing option."""
        return (
            name_problems(self.name)
            + data_problems("predictions", self.predictions)
            + data_problems("ground-truth", self.ground_truth)
        )


def evaluate(
    connection: Connection,
    location: SecureJobLocation,
    submit: SubmitOptions,
    options: EvaluationOptions,
    arguments: Words,
) -> None:
    """Submit an evaluation; local predictions and ground truth must belong together. `arguments` follow after `--`."""
    aws, job = Aws(connection), unique_name(options.name)
    predictions, first = resolve_input(
        location, "predictions", options.predictions, (OUTPUT_CSV, SCHEME_JSON).__contains__, OUTPUT_CSV
    )
    ground_truth, second = resolve_input(
        location, "ground-truth", options.ground_truth, lambda name: name.endswith(".csv"), GT_CSV
    )
    if first and second:
        read_predictions(Path(options.ground_truth), Path(options.predictions))
    inputs, image = {"predictions": predictions, "ground_truth": ground_truth}, job_image(aws, location)
    plan = Plan(
        job=job,
        location=location,
        image=image,
        calls=(processing_job(job, location, options, image, inputs=inputs, arguments=arguments),),
        uploads=first + second,
        kms_key=location.kms_key,
        encryption=encryption(options.instance_type, location.kms_key),
        needed_uris=existing_inputs(inputs.values(), first + second),
        instances=describe_instances(options.instance_type),
        instance_hours=options.max_hours,
        longest=f"{options.max_hours:g} h",
        results=location.evaluation(job),
    )
    submit_job(aws, plan, submit)


def processing_job(
    job: str,
    location: SecureJobLocation,
    options: EvaluationOptions,
    image: str,
    *,
    inputs: Mapping[str, str],
    arguments: Words,
) -> Call:
    """Return CreateProcessingJob; `inputs` are names and S3 folders, `arguments` flags of code/evaluation.py."""
    cluster = {
        "InstanceType": options.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": options.volume_gb,
        "VolumeKmsKeyId": volume_key(options.instance_type, location.kms_key),
    }
    output = {
        "S3Uri": location.uri("evaluation", job),
        "LocalPath": f"{_PROCESSING}/evaluation",
        "S3UploadMode": "EndOfJob",
    }
    outputs = [{"OutputName": "evaluation", "S3Output": output}]
    application = {"ImageUri": image, "ContainerEntrypoint": ["evaluate"], "ContainerArguments": list(arguments)}
    network = {"EnableNetworkIsolation": location.network_isolation, "VpcConfig": vpc(location)}
    request = {
        "ProcessingJobName": job,
        "AppSpecification": given(application),
        "RoleArn": location.role,
        "ProcessingInputs": [_processing_input(name, uri) for name, uri in inputs.items()],
        "ProcessingOutputConfig": given({"Outputs": outputs, "KmsKeyId": location.kms_key}),
        "ProcessingResources": {"ClusterConfig": given(cluster)},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds(options.max_hours)},
        "NetworkConfig": given(network),
        "Tags": tags(location),
    }
    return Call("CreateProcessingJob", given(request), ("StopProcessingJob", {"ProcessingJobName": job}))


def _processing_input(name: str, uri: str) -> Request:
    source = {
        "S3Uri": uri,
        "LocalPath": f"{_PROCESSING}/{name}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"InputName": name, "S3Input": source}
