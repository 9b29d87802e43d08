"""The requests of training, tuning and processing jobs, as boto3 takes them: pure functions of the options."""

from collections.abc import Mapping, Sequence
from typing import Any

from config import TrainConfig
from jobs.checks import pairs
from jobs.common import JobPlace
from jobs.instances import Call, Request, given, has_local_disk, seconds, tags, vpc
from jobs.job_options import Evaluation, Training, Tuning
from jobs.resuming import checkpoints_of
from metrics import metric_definitions

CHECKPOINT_DIR = "/opt/ml/checkpoints"
_PROCESSING = "/opt/ml/processing"


def training_job(
    job: str,
    place: JobPlace,
    options: Training,
    image: str,
    *,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
) -> Call:
    """CreateTrainingJob; `channels` are names and S3 folders."""
    checkpoints = {"S3Uri": checkpoints_of(place, options.resume_from or job), "LocalPath": CHECKPOINT_DIR}
    algorithm = _algorithm(image, options) | {"EnableSageMakerMetricsTimeSeries": True}
    request = _training_definition(place, options, channels) | {
        "TrainingJobName": job,
        "HyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": algorithm,
        "CheckpointConfig": checkpoints,
        "ProfilerConfig": {"DisableProfiler": True},
        "Tags": tags(place),
    }
    return Call("CreateTrainingJob", given(request), ("StopTrainingJob", {"TrainingJobName": job}))


def tuning_job(
    job: str,
    place: JobPlace,
    options: tuple[Training, Tuning],
    image: str,
    *,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    ranges: Mapping[str, Any],
) -> Call:
    """CreateHyperParameterTuningJob. Its trials share no checkpoint, so an interrupted one starts again.

    Hyperband stops jobs by itself: it wants to know the most epochs, and refuses the early stopping of the others.
    """
    training, tuning = options
    definition = _training_definition(place, training, channels) | {
        "StaticHyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": _algorithm(image, training),
    }
    limits = {"MaxNumberOfTrainingJobs": tuning.max_jobs, "MaxParallelTrainingJobs": tuning.max_parallel_jobs}
    is_hyperband = tuning.strategy == "Hyperband"
    epochs = {"MinResource": 1, "MaxResource": most_epochs(hyperparameters)}
    config = {
        "Strategy": tuning.strategy,
        "StrategyConfig": {"HyperbandStrategyConfig": epochs} if is_hyperband else None,
        "HyperParameterTuningJobObjective": {
            "Type": "Minimize" if tuning.objective.endswith("loss") else "Maximize",
            "MetricName": tuning.objective,
        },
        "ResourceLimits": limits,
        "ParameterRanges": dict(ranges),
        "TrainingJobEarlyStoppingType": "Auto" if tuning.early_stopping and not is_hyperband else "Off",
    }
    request = {
        "HyperParameterTuningJobName": job,
        "HyperParameterTuningJobConfig": given(config),
        "TrainingJobDefinition": given(definition),
        "Tags": tags(place),
    }
    undo = ("StopHyperParameterTuningJob", {"HyperParameterTuningJobName": job})
    return Call("CreateHyperParameterTuningJob", given(request), undo)


def most_epochs(hyperparameters: Mapping[str, str]) -> int:
    """How long one trial may be."""
    return int(hyperparameters.get("epochs", TrainConfig.epochs))


def processing_job(
    job: str, place: JobPlace, options: Evaluation, image: str, *, inputs: Mapping[str, str], arguments: Sequence[str]
) -> Call:
    """CreateProcessingJob that runs `evaluate`; `inputs` are names and S3 folders."""
    cluster = {
        "InstanceType": options.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": options.volume_gb,
        "VolumeKmsKeyId": None if has_local_disk(options.instance_type) else place.kms_key,
    }
    output = {
        "S3Uri": place.uri("evaluation", job),
        "LocalPath": f"{_PROCESSING}/evaluation",
        "S3UploadMode": "EndOfJob",
    }
    outputs = [{"OutputName": "evaluation", "S3Output": output}]
    application = {"ImageUri": image, "ContainerEntrypoint": ["evaluate"], "ContainerArguments": list(arguments)}
    network = {"EnableNetworkIsolation": place.network_isolation, "VpcConfig": vpc(place)}
    request = {
        "ProcessingJobName": job,
        "AppSpecification": given(application),
        "RoleArn": place.role,
        "ProcessingInputs": [_processing_input(name, uri) for name, uri in inputs.items()],
        "ProcessingOutputConfig": given({"Outputs": outputs, "KmsKeyId": place.kms_key}),
        "ProcessingResources": {"ClusterConfig": given(cluster)},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds(options.max_hours)},
        "NetworkConfig": given(network),
        "Tags": tags(place),
    }
    return Call("CreateProcessingJob", given(request), ("StopProcessingJob", {"ProcessingJobName": job}))


def _training_definition(place: JobPlace, options: Training, channels: Mapping[str, str]) -> Request:
    """What a training job and each trial of a tuning job have in common."""
    key = None if has_local_disk(options.instance_type) else place.kms_key
    resources = {
        "InstanceType": options.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": options.volume_gb,
        "VolumeKmsKeyId": key,
        "KeepAlivePeriodInSeconds": options.warm_pool_minutes * 60 or None,
    }
    stopping = {"MaxRuntimeInSeconds": seconds(options.max_hours)}
    if options.spot:
        stopping["MaxWaitTimeInSeconds"] = seconds(options.wait_hours)
    return {
        "RoleArn": place.role,
        "InputDataConfig": [_channel(name, uri) for name, uri in channels.items()],
        "OutputDataConfig": given({"S3OutputPath": place.uri("training"), "KmsKeyId": place.kms_key}),
        "ResourceConfig": given(resources),
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": options.spot,
        "EnableNetworkIsolation": place.network_isolation,
        "VpcConfig": vpc(place),
        "Environment": pairs(options.environment),
    }


def _algorithm(image: str, options: Training) -> Request:
    return {
        "TrainingImage": image,
        "TrainingInputMode": options.input_mode,
        "MetricDefinitions": metric_definitions(),
    }


def _channel(name: str, uri: str) -> Request:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _processing_input(name: str, uri: str) -> Request:
    source = {
        "S3Uri": uri,
        "LocalPath": f"{_PROCESSING}/{name}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"InputName": name, "S3Input": source}
