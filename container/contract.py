"""SageMaker's side of the contract: the files under /opt/ml, as the SM_* variables and flags that the commands read.

    input/config/hyperparameters.json    flags of `train`
    input/config/inputdataconfig.json    channels; without it, the folders in input/data are the channels
    input/config/resourceconfig.json     hosts; without it, one host (code/training/hosts.py has their order)
    input/config/checkpointconfig.json   folder of the checkpoints; without it, checkpoints/ if that is writable
    processing/                          inputs and outputs of a processing job

All of it is optional, so that one image runs on SageMaker, in its SDKs' local modes and with hand-made folders.
"""

import difflib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from commands import Command
from runtime.conversion import distinct
from runtime.errors import ConfigError, unknown_name
from runtime.files import UnusableFile
from runtime.json_files import parse_json, read_json
from training.hosts import order_hosts

BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"  # sagemaker-training's name for it
CHECKPOINT_VARIABLE = "SM_CHECKPOINT_DIR"

MAX_ARGUMENT_BYTES = (1 << 17) - 1  # MAX_ARG_STRLEN of Linux, with the zero byte at the end

_SDK_CHANNELS = ("code", "sm_drivers")  # channels that SageMaker's SDK adds for itself
_NEARLY = 0.7  # ratio of difflib at which one name is taken for another: pretrain and pretrained-weights, not test

_ONE_HOST = {"current_host": "algo-1", "hosts": ["algo-1"]}


def base_dir(environ: Mapping[str, str]) -> Path:
    """Return /opt/ml, or the folder that SAGEMAKER_BASE_DIR names instead."""
    return Path(environ.get(BASE_DIR_VARIABLE) or "/opt/ml")


def failure_variables(base: Path) -> dict[str, str]:
    """Return the variables that say where SageMaker looks for the reason of a failure."""
    variables = {"SM_OUTPUT_DIR": str(base / "output")}
    if _is_processing_job(base):
        variables["SM_MESSAGE_FILE"] = str(base / "output" / "message")
    return variables


def folder_variables(command: Command, base: Path) -> dict[str, str]:
    """Return the SM_* variables that name the folders of a command.

    An input is the first of its folders that exists. If none exists, the variable names the preferred one, which the
    command then reports as missing; for an optional input there is no variable.
    """
    is_processing = bool(command.processing_output) and _is_processing_job(base)
    variables = {
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DATA_DIR": str(base / (command.processing_output if is_processing else "output/data")),
    }
    for variable, folders in (command.processing_inputs if is_processing else command.inputs).items():
        variables[variable] = str(_first_existing(base, folders) or base / folders[0])
    for variable, folders in ({} if is_processing else command.optional_inputs).items():
        if found := _first_existing(base, folders):
            variables[variable] = str(found)
    return variables


def given_variables(environ: Mapping[str, str], folders: Collection[str]) -> dict[str, str]:
    """Return the variables of the caller; an empty one that names one of the `folders` counts as unset."""
    return {name: text for name, text in environ.items() if text or name not in folders}


def _first_existing(base: Path, folders: tuple[str, ...]) -> Path | None:
    return next((base / folder for folder in folders if (base / folder).is_dir()), None)


def _is_processing_job(base: Path) -> bool:
    return (base / "processing").is_dir() or (base / "config" / "processingjobconfig.json").exists()


def training_job(base: Path) -> tuple[dict[str, str], list[str]]:
    """Return the SM_* variables of a training job, as sagemaker-training sets them, and its hyperparameters as flags.

    A variable that is too long for Linux is left out: some hold all hyperparameters, which the commands read as flags.
    Raises ConfigError if the files ask for something that this image cannot do.
    """
    config = base / "input" / "config"
    hyperparameters = _read_table(config / "hyperparameters.json")
    channels = _read_table(config / "inputdataconfig.json") or _folders(base / "input" / "data")
    resources = _ONE_HOST | _read_table(config / "resourceconfig.json")
    _check_channels(channels)
    _check_hosts(resources, channels)

    # The import creates a folder in `base` and takes a quarter of a second, and only training needs it.
    from sagemaker_training import environment as toolkit

    decoded = {name: _decode(value) for name, value in hyperparameters.items()}
    job = toolkit.Environment(_Given(resources), _Given(channels), _Given(decoded))
    # The toolkit knows which names are SageMaker's own; the values stay the user's text, not decoded and encoded again.
    flags = [f"--{name}={_as_text(hyperparameters[name])}" for name in sorted(job.hyperparameters)]
    for flag in flags:
        if not _can_be_an_argument(flag):
            raise ConfigError(f"hyperparameter {flag!r} has a character that a command line cannot pass; remove it")
        if not _fits(flag):
            raise ConfigError(
                f"hyperparameter {flag[:40]!r}... has {len(os.fsencode(flag))} bytes, expected at most "
                f"{MAX_ARGUMENT_BYTES}, which is what Linux passes to a command; give a shorter one"
            )
    variables = {name: text for name, text in job.to_env_vars().items() if _fits(f"{name}={text}")}
    return variables | _checkpoint_variable(base), flags


def check_unread(
    command: Command, base: Path, channels: Sequence[str], environ: Mapping[str, str], flags: Sequence[str]
) -> list[str]:
    """Return a warning for each channel that the command does not read: neither its variables nor its flags name it.

    Raises ConfigError if the name is nearly that of a channel that is read: training images or initial weights would be
    missing.
    """
    known, data_dir, warnings = _channel_names(command), base / "input" / "data", []
    folders = [environ.get(name, "") for name in (*command.inputs, *command.optional_inputs)]
    folders += folder_variables(command, base).values()  # variables of the caller replace these on purpose
    paths = [Path(text) for text in (*folders, *(flag.partition("=")[2] or flag for flag in flags))]
    for name in channels:
        is_read = any(path.is_relative_to(data_dir / name) for path in paths)
        is_missing = name in known and not (data_dir / name).is_dir()
        if is_read or is_missing or name in _SDK_CHANNELS:
            continue
        letters = "".join(letter for letter in name.lower() if letter.isalpha())
        if nearest := difflib.get_close_matches(letters, known, n=1, cutoff=_NEARLY):
            raise ConfigError(
                f"channel {name!r} would be ignored, although its name is nearly {known[nearest[0]]!r}; rename it, or "
                "remove it"
            )
        sentence = unknown_name("channel", name, dict.fromkeys(known.values()))
        warnings.append(f"{sentence}; its files are ignored")
    return warnings


def _channel_names(command: Command) -> dict[str, str]:
    """Return the names of the channels that a command may read, each with the preferred name for it."""
    folders = (*command.inputs.values(), *command.optional_inputs.values())
    return {Path(folder).name: Path(names[0]).name for names in folders for folder in names}


class _Given(dict[str, Any]):
    """A table that is true even if it is empty; otherwise the toolkit would look for its file."""

    def __bool__(self) -> bool:
        return True


def _read_table(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty if there is no file; raise ConfigError for anything else."""
    if path.is_dir():
        raise ConfigError(
            f"{path.name} is a folder, which Docker creates if the source of a mount is missing; mount the file: {path}"
        )
    if not path.exists():
        return {}
    try:
        table = read_json(path, object_pairs_hook=distinct)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not JSON ({error}): {path}") from None
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}: {path}") from None
    except UnusableFile as error:
        raise ConfigError(f"{path.name} cannot be read ({error.strerror}): {path}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path.name} is a {type(table).__name__}, expected an object of names and values: {path}")
    return table


def _folders(data_dir: Path) -> dict[str, Any]:
    return {path.name: {} for path in sorted(data_dir.glob("*")) if path.is_dir()}


def _check_channels(channels: Mapping[str, Any]) -> None:
    if channels and not {"train", "training"} & channels.keys():
        names = ", ".join(sorted(channels))
        raise ConfigError(f"no channel is named 'train', only {names}; rename the channel with the training images")
    for name, channel in channels.items():
        if not isinstance(channel, dict):
            raise ConfigError(
                f"channel {name!r} is {channel!r} in inputdataconfig.json, expected an object such as {{}}"
            )
        if channel.get("TrainingInputMode") == "Pipe":
            raise ConfigError(f"channel {name!r} has input mode Pipe, expected files in a folder; use File or FastFile")


def _check_hosts(resources: Mapping[str, Any], channels: Mapping[str, Any]) -> None:
    """Raise ConfigError for hosts that cannot train together: all need the same hardware and all of the images."""
    hosts = order_hosts(resources["hosts"], resources["current_host"])
    if not hosts.are_several:
        return
    groups = resources.get("instance_groups") or []
    if len(groups) > 1:
        names = ", ".join(str(group.get("instance_group_name")) for group in groups)
        raise ConfigError(
            f"the job has {len(groups)} instance groups ({names}), expected one: all hosts need the same instance type"
        )
    for name, channel in channels.items():
        if channel.get("S3DistributionType") == "ShardedByS3Key":
            raise ConfigError(
                f"channel {name!r} is ShardedByS3Key, so each of the {len(hosts.names)} hosts would have other images; "
                "make it FullyReplicated"
            )


def _checkpoint_variable(base: Path) -> dict[str, str]:
    """Return the folder that SageMaker copies checkpoints from; without it, they are written to the run folder."""
    given = _read_table(base / "input" / "config" / "checkpointconfig.json").get("LocalPath")
    if given:
        if not _can_be_an_argument(str(given)):
            raise ConfigError(f"LocalPath is {given!a} in checkpointconfig.json, expected the path of a folder")
        return {CHECKPOINT_VARIABLE: str(given)}
    folder = base / "checkpoints"
    can_write = os.access(folder if folder.exists() else base, os.W_OK)
    return {CHECKPOINT_VARIABLE: str(folder)} if can_write else {}


def _can_be_an_argument(text: str) -> bool:
    """Return whether exec can pass a text: it must not contain a lone surrogate or a zero byte."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _fits(text: str) -> bool:
    """Return whether an argument, or a variable with its name, is short enough for Linux."""
    return len(os.fsencode(text)) <= MAX_ARGUMENT_BYTES


def _decode(value: Any) -> Any:
    """Return what a hyperparameter means as JSON, or the text itself, as sagemaker-training reads it."""
    try:
        return parse_json(value) if isinstance(value, str | bytes) else value
    except ValueError:
        return value


def _as_text(value: Any) -> str:
    """Return a hyperparameter as a string, as the service writes it; hand-made files have numbers, lists, null too."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
