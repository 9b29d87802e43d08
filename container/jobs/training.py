"""`submit.py train`: a training job, new or resumed from the checkpoints of another one."""

from collections.abc import Mapping
from dataclasses import dataclass

from config import MAY_DIFFER
from data.readers import AUTO
from jobs.aws import Aws
from jobs.checks import data_problems, name_problems, pair_problems, pairs
from jobs.common import Connection, JobLocation, SecureJobLocation, SubmitOptions, Words, unique_name
from jobs.ecr import job_image
from jobs.hyperparameters import current_hyperparameters, default_hyperparameters, read_hyperparameters, with_recipe
from jobs.inputs import existing_inputs, resolve_input
from jobs.instances import describe_instances, volume_key, waste
from jobs.local_data import check_local_data
from jobs.manifest import is_manifest, manifest_channels, manifest_problems, read_label_manifest
from jobs.plan import Plan, submit_job
from jobs.pretrained import ARCHIVE_ENDING, pretrained_channel, pretrained_problems
from jobs.request_parts import Call, Request, given, seconds, tags, vpc
from jobs.resuming import owner
from jobs.s3 import Upload
from metrics import metric_definitions
from recipes import AUTO as AUTO_RECIPE
from runtime.arguments import option
from runtime.errors import ConfigError, DataError, JobError
from sagemaker_limits import INSTANCES, NAME_LENGTH, TRAINING_HOURS, VOLUME_GB, WARM_POOL_MINUTES

CHECKPOINT_DIR = "/opt/ml/checkpoints"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The training job; hyperparameters follow after `--`, as for code/train.py."""

    name: str = option("mask-classifier", "name of the job; the time is appended")
    data: str = option(
        "", "training images: a folder, which is uploaded, s3://bucket/prefix, or a *.manifest of Ground Truth"
    )
    validation_data: str = option("", "validation images (the `validation` channel): a folder or s3://bucket/prefix")
    pretrained_data: str = option(
        "",
        "initial weights (the `pretrained` channel): a file, a folder or s3://bucket/prefix; default: cached weights",
    )
    from_: str = option("", "training job, or its s3://bucket/key/model.tar.gz, to start from; classes may differ")
    resume_from: str = option("", "training job to resume from its checkpoints, with its data and hyperparameters")
    instance_type: str = option("ml.g5.xlarge", "instance type; all of its GPUs train")
    instance_count: int = option(
        1, "number of instances that train together; --batch-size is for all of them", minimum=1, maximum=INSTANCES
    )
    volume_gb: int = option(50, "disk for data and scratch files, in GB", minimum=1, maximum=VOLUME_GB)
    max_hours: float = option(12.0, "maximum training time", above=0, maximum=TRAINING_HOURS)
    spot: bool = option(True, "spot instances: cheaper, may be interrupted, then resumed from the checkpoint")
    max_wait_hours: float | None = option(
        None, "spot: maximum time, waiting included; default: twice --max-hours", above=0, maximum=TRAINING_HOURS
    )
    warm_pool_minutes: int = option(
        0, "time that the instance is kept for the next job", minimum=0, maximum=WARM_POOL_MINUTES
    )
    input_mode: str = option(
        "File", "File copies the data first, FastFile reads it while training", choices=("File", "FastFile")
    )
    environment: str = option("", "name=value,... set in the container")

    def problems(self) -> list[str]:
        """Return a sentence for each missing option and for each that does not fit another one."""
        problems = name_problems(self.name) + data_problems("data", self.data)
        problems += manifest_problems(self.data, self.input_mode)
        if is_manifest(self.validation_data):
            problems.append(
                "--validation-data: a manifest is for --data only, expected a folder with images and the manifest: "
                f"{self.validation_data}"
            )
        elif self.validation_data:
            problems += data_problems("validation-data", self.validation_data)
        problems += pretrained_problems(self.pretrained_data, self.from_)
        if self.resume_from:
            problems += name_problems(self.resume_from, flag="resume-from", most=NAME_LENGTH)
        if self.spot and self.warm_pool_minutes:
            problems.append("--warm-pool-minutes: spot instances have no warm pool; add --spot false or leave it out")
        if self.spot and self.wait_hours < self.max_hours:
            problems.append(f"--max-wait-hours: {self.wait_hours:g} is less than --max-hours {self.max_hours:g}")
        if not self.spot and self.max_wait_hours is not None:
            problems.append("--max-wait-hours: only spot jobs wait; add --spot true or leave it out")
        return problems + pair_problems("environment", self.environment)

    @property
    def wait_hours(self) -> float:
        """Return the maximum time of a spot job, waiting included; at most 28 days."""
        return min(2 * self.max_hours, float(TRAINING_HOURS)) if self.max_wait_hours is None else self.max_wait_hours

    @property
    def billed_hours(self) -> float:
        """Return the maximum time that is paid for, of all instances together."""
        return self.instance_count * (self.max_hours + self.warm_pool_minutes / 60)

    @property
    def longest(self) -> str:
        waiting = f", at most {self.wait_hours:g} h with waiting" if self.spot else ""
        return f"{self.max_hours:g} h of training{waiting}"


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
