"""The `pretrained` channel of a training job: weights that are given, an earlier job's model, or cached weights."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.aws import Aws
from jobs.checks import data_problems, model_problems
from jobs.common import JobLocation, SecureJobLocation
from jobs.hyperparameters import current_hyperparameters, default_hyperparameters
from jobs.inputs import Input, resolve_input
from jobs.s3 import upload_of
from recipes import AUTO
from runtime.errors import ConfigError
from runtime.json_files import read_json_object
from weights_cache import cache_dir, find, notes_path

ARCHIVE_ENDING = ".tar.gz"
_CHANNELS = "/opt/ml/input/data/"  # where a job has its channels


def pretrained_problems(pretrained_data: str, from_job: str) -> list[str]:
    """Return a sentence for each option of the channel that is malformed, and if both are given."""
    problems = data_problems("pretrained-data", pretrained_data) if pretrained_data else []
    problems += model_problems(from_job, flag="from") if from_job else []
    both = pretrained_data and from_job
    return problems + (["--from and --pretrained-data: both are weights to start from; give one"] if both else [])


def check_pretrained(asked: str, *, has_channel: bool, network_isolation: bool) -> None:
    """Raise ConfigError for a `--pretrained` of training that names what a job cannot have."""
    if asked == "download" and network_isolation:
        raise ConfigError(
            "--pretrained download: the job has no network; run `make weights MODEL=...` first, whose weights are "
            "uploaded, or pass --network-isolation no"
        )
    is_there = asked.startswith(_CHANNELS) and (has_channel or not asked.startswith(f"{_CHANNELS}pretrained/"))
    if asked not in ("auto", "none", "download") and not is_there:
        raise ConfigError(
            f"--pretrained {asked}: the job does not have this file, as it is not uploaded; pass --pretrained-data "
            "FILE before the -- instead"
        )


def pretrained_channel(
    location: SecureJobLocation,
    hyperparameters: Mapping[str, str],
    *,
    pretrained_data: str,
    from_job: str,
    resume_from: str,
    aws: Aws | None,
) -> Input | None:
    """Return the channel's URI and its upload, None if training starts from random weights.

    Cached weights of the model are taken for a job that is new and asks for no others. Raises ConfigError if the
    hyperparameters contradict what is given or name what the job does not have, or if the earlier job has another
    model; without `aws`, as in a dry run, that is not known.
    """
    asked, is_given = hyperparameters.get("pretrained", "auto"), bool(pretrained_data or from_job)
    if is_given and asked in ("none", "download"):
        flag = "--from" if from_job else "--pretrained-data"
        raise ConfigError(f"{flag}: the job would ignore it because of -- --pretrained {asked}; leave one of them out")
    check_pretrained(asked, has_channel=is_given, network_isolation=location.network_isolation)
    if is_given:
        if from_job:
            return _from_job(location, from_job, hyperparameters, aws)
        _check_model(Path(pretrained_data), _model_of(hyperparameters))
        return _given(location, pretrained_data)
    if asked != "auto" or resume_from:
        return None
    model = _model_of(hyperparameters)
    if (cached := find(model, cache_dir(os.environ))) is None:
        return None
    print(
        f"weights of {model}: those in the cache, {cached}; -- --pretrained none trains from scratch", file=sys.stderr
    )
    return resolve_input(location, "pretrained-data", str(cached))


def _check_model(folder: Path, model: str) -> None:
    """Raise ConfigError for the local folder of a model of this job that a `model` cannot be started from."""
    try:
        record = read_json_object(folder / "model.json")
    except (OSError, ValueError):
        return  # other weights, or training says what is wrong with them
    theirs = record.get("architecture", model)
    if record.get("members"):
        raise ConfigError(
            f"--pretrained-data: an ensemble of {len(record['members'])} models cannot be started from; give one of "
            f"them, such as output/data/cv/fold-1/model of `make cv`: {folder}"
        )
    if theirs != model:
        raise ConfigError(
            f"--pretrained-data: it is a {theirs}, and this job would train a {model}; pass -- --model {theirs}: "
            f"{folder}"
        )


def _given(location: JobLocation, text: str) -> Input:
    """Return a folder, a file with its notes, or what is in S3."""
    if text.startswith("s3://") and text.endswith(ARCHIVE_ENDING):
        return text, ()
    path = Path(text)
    if not path.is_file():
        return resolve_input(location, "pretrained-data", text)
    files: Sequence[Path] = [found for found in (path, notes_path(path)) if found.is_file()]
    upload = upload_of(path.parent, [found.name for found in files], location.uri("data"))
    return upload.uri, (upload,)


def _from_job(location: JobLocation, job: str, hyperparameters: Mapping[str, str], aws: Aws | None) -> Input:
    """Return the model.tar.gz of an earlier job, whose architecture is compared if SageMaker still knows the job."""
    uri = location.model(job)
    if aws and uri != job and (described := aws.find("sagemaker", "DescribeTrainingJob", TrainingJobName=job)):
        stored = described.get("HyperParameters", {})
        is_known = "model" in stored or stored.get("recipe") != AUTO  # else it is that of the job that it resumed
        theirs = _model_of(current_hyperparameters(stored))
        if is_known and theirs != (ours := _model_of(hyperparameters)):
            raise ConfigError(
                f"--from {job}: it trained a {theirs}, and this job would train a {ours}; pass -- --model {theirs}"
            )
    return uri, ()


def _model_of(hyperparameters: Mapping[str, str]) -> str:
    """Return the model that a job trains: the one it names, else that of its recipe."""
    return hyperparameters.get("model", default_hyperparameters(hyperparameters.get("recipe", AUTO))["model"])
