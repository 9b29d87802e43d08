"""The command that resumes a training job, from what AWS says about the job."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from jobs.common import SecureJobLocation
from jobs.training_options import TrainingOptions
from runtime.arguments import flag_of
from runtime.conversion import unquote


def resume_command(facts: Mapping[str, Any]) -> str:
    """Return `submit.py train` with the data, options and hyperparameters of a job; empty for one without checkpoints.

    Role, bucket and region come from the environment, as for every command; the image is that of the current commit. A
    job that was itself resumed has its checkpoints where the original job has them, which is to be named.
    """
    if not (folder := checkpoints(facts)):
        return ""
    uris = dict(_channels(facts))
    words = ["submit.py", "train", "--data", "MANIFEST" if "labels" in uris else uris.get("train", "DATA")]
    if "validation" in uris:
        words += ["--validation-data", uris["validation"]]
    words += ["--resume-from", owner(folder)]
    words += _changed_options(facts, folder)
    options = [word for name, text in sorted(facts.get("HyperParameters", {}).items()) for word in _flag(name, text)]
    return shlex.join([*words, "--", *options] if options else words)


def checkpoints(facts: Mapping[str, Any]) -> str:
    """Return the S3 folder of a training job's checkpoints, empty if it has none."""
    return str(facts.get("CheckpointConfig", {}).get("S3Uri", ""))


def owner(folder: str) -> str:
    """Return the name of the training job that a folder of checkpoints is named after."""
    return folder.rstrip("/").rpartition("/")[2]


def _prefix(folder: str) -> str:
    """Return the --prefix of a folder of checkpoints, s3://bucket/prefix/checkpoints/job/."""
    return folder.removeprefix("s3://").partition("/")[2].rpartition("/checkpoints/")[0]


def fold_of(facts: Mapping[str, Any]) -> str:
    """Return the fold of a training job, such as 2/5, empty if it has none."""
    return unquote(str(facts.get("HyperParameters", {}).get("fold", "")))


def _changed_options(facts: Mapping[str, Any], folder: str) -> list[str]:
    """Return the options that are not at their defaults, as words, in the order of `--help`."""
    found = dict(known_options(facts, folder))
    words = []
    for field in (*fields(SecureJobLocation), *fields(TrainingOptions)):
        value = found.get(field.name)
        if value not in (None, "", field.default):
            words += [flag_of(field.name), _word(value)]
    return words


def _word(value: str | float) -> str:
    """Return a value as a word of the command line; hours have digits enough for a second of 28 days."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def known_options(facts: Mapping[str, Any], folder: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of every option that AWS says of a job; None for one that it does not say."""
    resources, stopping, vpc = (facts.get(name, {}) for name in ("ResourceConfig", "StoppingCondition", "VpcConfig"))
    yield "prefix", _prefix(folder)
    yield "kms_key", facts.get("OutputDataConfig", {}).get("KmsKeyId")
    yield "subnets", ",".join(vpc.get("Subnets", ()))
    yield "security_groups", ",".join(vpc.get("SecurityGroupIds", ()))
    yield "network_isolation", facts.get("EnableNetworkIsolation")
    yield "instance_type", resources.get("InstanceType")
    yield "instance_count", resources.get("InstanceCount")
    yield "volume_gb", resources.get("VolumeSizeInGB")
    yield "warm_pool_minutes", resources.get("KeepAlivePeriodInSeconds", 0) // 60
    yield "spot", facts.get("EnableManagedSpotTraining")
    yield "input_mode", facts.get("AlgorithmSpecification", {}).get("TrainingInputMode")
    yield "environment", ",".join(f"{name}={value}" for name, value in facts.get("Environment", {}).items())
    hours = _hours(stopping, "MaxRuntimeInSeconds")
    yield "max_hours", hours
    if hours and (most := _hours(stopping, "MaxWaitTimeInSeconds")) != TrainingOptions(max_hours=hours).wait_hours:
        yield "max_wait_hours", most


def _hours(stopping: Mapping[str, int], limit: str) -> float | None:
    return stopping[limit] / 3600 if limit in stopping else None


def _channels(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the URI of each channel that comes from S3."""
    for channel in facts.get("InputDataConfig", []):
        if uri := channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri"):
            yield channel["ChannelName"], uri


def _flag(name: str, text: str) -> list[str]:
    """Return a hyperparameter as words of code/train.py; --resume is for the job that is submitted alone."""
    if name == "resume" or name.startswith("sagemaker_"):
        return []
    flag, value = flag_of(name), unquote(text)
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
