"""`submit.py train`: a training job, new or resumed from the checkpoints of another one."""

from collections.abc import Mapping

from config import MAY_DIFFER
from data.readers import AUTO
from jobs.aws import Aws
from jobs.checks import pairs
from jobs.common import Connection, JobLocation, SecureJobLocation, SubmitOptions, Words, unique_name
from jobs.ecr import job_image
from jobs.hyperparameters import current_hyperparameters, default_hyperparameters, read_hyperparameters, with_recipe
from jobs.inputs import existing_inputs, resolve_input
from jobs.instances import describe_instances, encryption, volume_key, waste
from jobs.local_data import check_local_data
from jobs.manifest import is_manifest, manifest_channels, read_label_manifest
from jobs.plan import Plan, submit_job
from jobs.pretrained import ARCHIVE_ENDING, pretrained_channel
from jobs.request_parts import Call, Request, given, seconds, tags, vpc
from jobs.resuming import owner
from jobs.s3 import Upload
from jobs.training_options import TrainingOptions
from metrics import metric_definitions
from recipes import AUTO as AUTO_RECIPE
from runtime.errors import ConfigError, DataError, JobError

CHECKPOINT_DIR = "/opt/ml/checkpoints"


def train(
    connection: Connection,
    location: SecureJobLocation,
    submit: SubmitOptions,
    options: TrainingOptions,
    hyperparameter_words: Words,
) -> None:
    """Submit a training job; raise JobError if it could not start or not be resumed."""
    hyperparameters = read_hyperparameters(hyperparameter_words)
    check_restarts(hyperparameters, options)
    aws, job = Aws(connection), unique_name(options.name)
    channels, uploads = training_channels(location, options, hyperparameters, None if submit.dry_run else aws)
    image = job_image(aws, location)
    resumed = (location.checkpoints(options.resume_from),) if options.resume_from else ()
    if resumed and not submit.dry_run:
        check_resumable(aws, location, options.resume_from, hyperparameters)
    hyperparameters = with_recipe(hyperparameters, channels, resumes=bool(resumed))
    call = training_job(job, location, options, image, channels=channels, hyperparameters=hyperparameters)
    plan = Plan(
        job=job,
        location=location,
        image=image,
        calls=(call,),
        uploads=uploads,
        kms_key=location.kms_key,
        encryption=encryption(options.instance_type, location.kms_key),
        instances=describe_instances(options.instance_type, options.instance_count, spot=options.spot),
        waste=waste(options.instance_type, uses_all_gpus=True),
        needed_uris=existing_inputs(channels.values(), uploads) + resumed,
        instance_hours=options.billed_hours,
        longest=options.longest,
        resumes="".join(resumed),
        results=location.uri("training", job) + "/",
    )
    submit_job(aws, plan, submit)


def training_job(
    job: str,
    location: SecureJobLocation,
    options: TrainingOptions,
    image: str,
    *,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
) -> Call:
    """Return CreateTrainingJob; `channels` are names and S3 folders, or files that list objects."""
    checkpoints = {"S3Uri": location.checkpoints(options.resume_from or job), "LocalPath": CHECKPOINT_DIR}
    request = training_definition(location, options, channels) | {
        "TrainingJobName": job,
        "HyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": algorithm(image, options) | {"EnableSageMakerMetricsTimeSeries": True},
        "CheckpointConfig": checkpoints,
        "ProfilerConfig": {"DisableProfiler": True},
        "Tags": tags(location),
    }
    return Call("CreateTrainingJob", given(request), ("StopTrainingJob", {"TrainingJobName": job}))


def training_definition(location: SecureJobLocation, options: TrainingOptions, channels: Mapping[str, str]) -> Request:
    """Return what a training job and each trial of a tuning job have in common."""
    resources = {
        "InstanceType": options.instance_type,
        "InstanceCount": options.instance_count,
        "VolumeSizeInGB": options.volume_gb,
        "VolumeKmsKeyId": volume_key(options.instance_type, location.kms_key),
        "KeepAlivePeriodInSeconds": options.warm_pool_minutes * 60 or None,
    }
    stopping = {"MaxRuntimeInSeconds": seconds(options.max_hours)}
    if options.spot:
        stopping["MaxWaitTimeInSeconds"] = seconds(options.wait_hours)
    return {
        "RoleArn": location.role,
        "InputDataConfig": [_channel(name, uri) for name, uri in channels.items()],
        "OutputDataConfig": given({"S3OutputPath": location.uri("training"), "KmsKeyId": location.kms_key}),
        "ResourceConfig": given(resources),
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": options.spot,
        "EnableNetworkIsolation": location.network_isolation,
        "VpcConfig": vpc(location),
        "Environment": pairs(options.environment),
    }


def algorithm(image: str, options: TrainingOptions) -> Request:
    """Return the AlgorithmSpecification: image, input mode, and the metrics that training logs."""
    return {
        "TrainingImage": image,
        "TrainingInputMode": options.input_mode,
        "MetricDefinitions": metric_definitions(),
    }


def _channel(name: str, uri: str) -> Request:
    kind = "S3Prefix" if uri.endswith(("/", ARCHIVE_ENDING)) else "ManifestFile"
    source = {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def training_channels(
    location: SecureJobLocation, options: TrainingOptions, hyperparameters: Mapping[str, str], aws: Aws | None = None
) -> tuple[dict[str, str], tuple[Upload, ...]]:
    """Return the channels of a training job and their uploads; local data sets are read as training reads them.

    A manifest that is in S3 is read through `aws`; without it, as in a dry run, it is rejected.
    """
    manifest = read_label_manifest(options.data, aws) if is_manifest(options.data) else None
    listed = manifest.objects.samples if manifest else None
    check_local_data("" if manifest else options.data, options.validation_data, hyperparameters, listed)
    if manifest:
        channels, uploads = manifest_channels(location, manifest)
    else:
        uri, uploads = resolve_input(location, "data", options.data)
        channels = {"train": uri}
    if options.validation_data:
        channels["validation"], more = resolve_input(location, "validation-data", options.validation_data)
        uploads += more
    initial = pretrained_channel(
        location,
        hyperparameters,
        pretrained_data=options.pretrained_data,
        from_job=options.from_,
        resume_from=options.resume_from,
        aws=aws,
    )
    if initial:
        channels["pretrained"], more = initial
        uploads += more
    size_bytes = sum(upload.size_bytes for upload in uploads)
    if options.input_mode == "File" and size_bytes > options.volume_gb * 10**9:
        raise DataError(
            f"the data has {size_bytes / 1e9:.1f} GB, more than --volume-gb {options.volume_gb}; raise it, or read "
            f"while training with --input-mode FastFile: {options.data}"
        )
    return channels, uploads


def check_restarts(hyperparameters: Mapping[str, str], options: TrainingOptions) -> None:
    """Raise ConfigError for a job that would ignore the checkpoint of the job it resumes, or its own on spot."""
    if hyperparameters.get("resume") != "never":
        return
    if options.resume_from:
        raise ConfigError(
            f"--resume-from {options.resume_from}: --resume never ignores its checkpoint; leave out one of the two"
        )
    if options.spot:
        raise ConfigError(
            "--resume never restarts a spot job from scratch after each interruption; leave it out, jobs start from "
            "scratch anyway"
        )


def check_resumable(aws: Aws, location: JobLocation, job: str, hyperparameters: Mapping[str, str]) -> None:
    """Raise JobError unless a run with these hyperparameters may resume a training job."""
    checkpoints = location.checkpoints(job)
    _check_unused(aws, checkpoints)
    described = aws.find("sagemaker", "DescribeTrainingJob", TrainingJobName=job)
    if described is None:  # SageMaker deletes jobs, S3 keeps their checkpoints
        return
    if (theirs := described.get("CheckpointConfig", {}).get("S3Uri")) and theirs != checkpoints:
        if owner(theirs) == job:
            raise JobError(f"job {job!r} has its checkpoints elsewhere; pass its --bucket and --prefix: {theirs}")
        raise JobError(f"job {job!r} was itself resumed; pass the original job to --resume-from: {theirs}")
    if hyperparameters.get("resume") != "force":
        _check_same_run(job, current_hyperparameters(described.get("HyperParameters", {})), hyperparameters)


def _check_same_run(job: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise ConfigError that lists the hyperparameters that differ and change the result."""
    recipe = ours.get("recipe", AUTO_RECIPE)
    defaults = default_hyperparameters(theirs.get("recipe", "original") if recipe == AUTO_RECIPE else recipe)
    names = sorted(set(defaults) - set(MAY_DIFFER))
    values = {name: [given.get(name, defaults[name]) for given in (theirs, ours)] for name in names}
    for name, open_value in (("dataset", AUTO), ("parts", "0"), ("statistics", AUTO)):
        if open_value in values.get(name, ()):  # the job compares what was found, or keeps what it has
            del values[name]
    if different := [f"{name} was {old}, is {new}" for name, (old, new) in values.items() if old != new]:
        raise ConfigError(
            f"--resume-from {job}: it is another run ({', '.join(different)}); give the same hyperparameters, or start "
            "from scratch without --resume-from"
        )


def _check_unused(aws: Aws, checkpoints: str) -> None:
    """Raise JobError if a running training job writes to this checkpoint folder."""
    for status, remedy in (("InProgress", "stop"), ("Stopping", "wait")):
        for page in aws.pages("sagemaker", "ListTrainingJobs", StatusEquals=status):
            for summary in page["TrainingJobSummaries"]:
                name = summary["TrainingJobName"]
                described = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=name)
                if described.get("CheckpointConfig", {}).get("S3Uri") == checkpoints:
                    raise JobError(
                        f"job {name!r} is still writing to this checkpoint folder; `submit.py {remedy} {name}` first"
                    )
