"""SageMaker's side of the contract: what lies under /opt/ml, as the SM_* variables and flags that the verbs read.

    input/config/hyperparameters.json    flags of `train`
    input/config/inputdataconfig.json    channels; without it, the folders in input/data are the channels
    input/config/resourceconfig.json     hosts; without it, there is one
    input/config/checkpointconfig.json   where checkpoints go; without it, checkpoints/ if that can be written
    processing/                          the inputs and outputs of a processing job

All of it is optional, so that one image runs on SageMaker, in its SDKs' local modes and with hand-made folders.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError

BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"  # sagemaker-training's name for it

# Where each input of a verb may lie: the first folder that exists, else the first, which the verb will ask for by name.
# `training` and `model` are the names that SageMaker's SDK gives to channels that its user left without one.
_INPUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "SM_CHANNEL_TRAIN": ("input/data/train", "input/data/training"),
        "SM_CHANNEL_PRETRAINED": ("input/data/pretrained", "input/data/model"),
    },
    "infer": {
        "SM_CHANNEL_EVAL": ("input/data/eval", "input/data/test"),
        "SM_CHANNEL_MODEL": ("input/data/model", "model"),
    },
    "evaluate": {"SM_GROUND_TRUTH_DIR": ("input/data/ground_truth",)},
    "serve": {},
}
_PROCESSING_INPUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "infer": {
        "SM_CHANNEL_EVAL": ("processing/eval", "processing/test", "processing/data"),
        "SM_CHANNEL_MODEL": ("processing/model",),
    },
    "evaluate": {
        "SM_GROUND_TRUTH_DIR": ("processing/ground_truth",),
        "SM_PREDICTION_DIR": ("processing/predictions",),
    },
}
_OPTIONAL = {"SM_CHANNEL_PRETRAINED"}
_PROCESSING_OUTPUTS = {"infer": "processing/predictions", "evaluate": "processing/evaluation"}

_ONE_HOST = {"current_host": "algo-1", "hosts": ["algo-1"]}


def base_dir(environ: Mapping[str, str]) -> Path:
    """/opt/ml, or what stands in for it."""
    return Path(environ.get(BASE_DIR_VARIABLE, "/opt/ml"))


def folder_variables(verb: str, base: Path) -> dict[str, str]:
    """The SM_* variables that name the verb's folders; only an optional input that is not there has none."""
    is_processing = verb in _PROCESSING_OUTPUTS and _is_processing_job(base)
    inputs = (_PROCESSING_INPUTS if is_processing else _INPUTS)[verb]
    variables = {
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DIR": str(base / "output"),
        "SM_OUTPUT_DATA_DIR": str(base / (_PROCESSING_OUTPUTS[verb] if is_processing else "output/data")),
    }
    for variable, places in inputs.items():
        there = [place for place in places if (base / place).is_dir()]
        if there or variable not in _OPTIONAL:
            variables[variable] = str(base / (there or places)[0])
    if is_processing:
        variables["SM_MESSAGE_FILE"] = str(base / "output" / "message")
    return variables


def _is_processing_job(base: Path) -> bool:
    return (base / "processing").is_dir() or (base / "config" / "processingjobconfig.json").exists()


def training_job(base: Path) -> tuple[dict[str, str], list[str]]:
    """The SM_* variables of a training job, as sagemaker-training sets them, and its hyperparameters as flags.

    Raises ConfigError for files that say what this image cannot do.
    """
    config = base / "input" / "config"
    hyperparameters = _read_table(config / "hyperparameters.json")
    channels = _read_table(config / "inputdataconfig.json") or _folders(base / "input" / "data")
    resources = _ONE_HOST | _read_table(config / "resourceconfig.json")
    _check_channels(channels)
    _check_hosts(resources["hosts"])

    # Importing it makes a folder in `base` and takes a quarter of a second, and only training needs it.
    from sagemaker_training import environment as toolkit

    decoded = toolkit.read_hyperparameters() if hyperparameters else {}
    job = toolkit.Environment(_Given(resources), _Given(channels), _Given(decoded))
    # Which of the names are SageMaker's own is for the toolkit to say; the text is the user's, not decoded and encoded.
    flags = [f"--{name}={_as_text(hyperparameters[name])}" for name in sorted(job.hyperparameters)]
    for flag in flags:
        if not _can_be_an_argument(flag):
            raise ConfigError(f"hyperparameter {flag!r} holds a character that no command line can; leave it out")
    return job.to_env_vars() | _checkpoint_variable(base), flags


class _Given(dict[str, Any]):
    """A table that counts as given even if it is empty; the toolkit would look for its file otherwise."""

    def __bool__(self) -> bool:
        return True


def _read_table(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file; raises ConfigError if it holds anything else."""
    if path.is_dir():
        raise ConfigError(
            f"{path.name} is a folder, which Docker makes of a mount without a source; mount the file: {path}"
        )
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path.name} is not JSON ({error}): {path}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path.name} holds a {type(table).__name__}, expected an object of names and values: {path}")
    return table


def _folders(data_dir: Path) -> dict[str, Any]:
    return {path.name: {} for path in sorted(data_dir.glob("*")) if path.is_dir()}


def _check_channels(channels: Mapping[str, Any]) -> None:
    if channels and not {"train", "training"} & channels.keys():
        names = ", ".join(sorted(channels))
        raise ConfigError(f"no channel is named 'train', only {names}; give that name to the images to train on")
    for name, channel in channels.items():
        if not isinstance(channel, dict):
            raise ConfigError(
                f"channel {name!r} is {channel!r} in inputdataconfig.json, expected an object such as {{}}"
            )
        if channel.get("TrainingInputMode") == "Pipe":
            raise ConfigError(f"channel {name!r} has input mode Pipe, expected files in a folder; use File or FastFile")


def _check_hosts(hosts: Any) -> None:
    if not isinstance(hosts, list):
        raise ConfigError(f"hosts is {hosts!r} in resourceconfig.json, expected a list of one name")
    if len(hosts) > 1:
        raise ConfigError(f"the job has {len(hosts)} hosts, training runs on one; set the instance count to 1")


def _checkpoint_variable(base: Path) -> dict[str, str]:
    """Where SageMaker copies checkpoints from; nothing where that cannot be written, then they go to the run folder."""
    place = _read_table(base / "input" / "config" / "checkpointconfig.json").get("LocalPath")
    if place:
        return {"SM_CHECKPOINT_DIR": str(place)}
    folder = base / "checkpoints"
    can_write = os.access(folder if folder.exists() else base, os.W_OK)
    return {"SM_CHECKPOINT_DIR": str(folder)} if can_write else {}


def _can_be_an_argument(text: str) -> bool:
    """Half a character (a surrogate) or a zero cannot be handed to a program."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _as_text(value: Any) -> str:
    """A hyperparameter as the service writes it, a string; hand-made files also hold numbers, lists and null."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
