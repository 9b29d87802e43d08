"""The command that resumes a training job, from what AWS says about the job."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.common import JobLocation
from runtime.conversion import unquote


def resume_command(facts: Mapping[str, Any]) -> str:
    """Return `submit.py train` with the data and the hyperparameters of a job; empty for one without checkpoints.

    A job that was itself resumed has its checkpoints where the original job has them, which is to be named.
    """
    if not (folder := checkpoints(facts)):
        return ""
    uris = dict(_channels(facts))
    words = ["submit.py", "train", "--data", "MANIFEST" if "labels" in uris else uris.get("train", "DATA")]
    if "validation" in uris:
        words += ["--validation-data", uris["validation"]]
    words += ["--resume-from", owner(folder)]
    if (prefix := _prefix(folder)) not in ("", JobLocation.prefix):
        words += ["--prefix", prefix]
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


def _channels(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the URI of each channel that comes from S3."""
    for channel in facts.get("InputDataConfig", []):
        if uri := channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri"):
            yield channel["ChannelName"], uri


def _flag(name: str, text: str) -> list[str]:
    """Return a hyperparameter as words of code/train.py; --resume is for the job that is submitted alone."""
    if name == "resume" or name.startswith("sagemaker_"):
        return []
    flag, value = f"--{name.replace('_', '-')}", unquote(text)
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
