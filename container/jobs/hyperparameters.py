"""Hyperparameters of a SageMaker job, read by the same rules as code/train.py, so that a typo costs nothing."""

import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from config import TrainConfig
from jobs.checks import pairs
from runtime.arguments import parse
from runtime.conversion import show
from runtime.errors import ConfigError, unknown_name

_SCALES = {"linear": "Linear", "log": "Logarithmic", "auto": "Auto"}
_FIELDS = typing.get_type_hints(TrainConfig)


def read_hyperparameters(words: Sequence[str]) -> dict[str, str]:
    """`--epochs 30 --resize 128 96` as SageMaker's strings: {"epochs": "30", "resize": "128,96"}; only what is given.

    Raises ConfigError as code/train.py does.
    """
    (config,) = parse("train.py", words, {}, TrainConfig)
    flags = [word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")]
    return {name: as_text(getattr(config, name)) for name in _FIELDS if name in flags}


def read_search(text: str, fixed: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """`lr=0.001:0.1:log,optimizer=SGD:AdamW` as SageMaker's ParameterRanges.

    Numbers are a range low:high, with a scale (linear, log, auto) if wanted; names and booleans are a choice. `fixed`
    are the flags that stay as they are. Raises ConfigError that names everything that code/train.py would refuse.
    """
    kinds = ("ContinuousParameterRanges", "IntegerParameterRanges", "CategoricalParameterRanges")
    ranges: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    problems = []
    for name, choice in pairs(text).items():
        name = name.replace("-", "_")
        try:
            if name not in _FIELDS:
                raise ConfigError(unknown_name("hyperparameter", name, _FIELDS, most=3))
            if name in read_hyperparameters(fixed):
                raise ConfigError("is given a fixed value after -- as well; leave out one of them")
            kind, values, entry = _read_range(name, choice.split(":"))
            for value in values:
                parse("train.py", [*fixed, f"--{name}", value], {}, TrainConfig)
            ranges[kind].append(entry)
        except ConfigError as error:
            problems.append(f"--search {name}={choice}: {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return {kind: entries for kind, entries in ranges.items() if entries}


def _read_range(name: str, parts: list[str]) -> tuple[str, list[str], dict[str, Any]]:
    """The kind of range, the values that must be legal, and SageMaker's entry."""
    hint = _FIELDS[name]
    if hint not in (int, float):
        if hint not in (str, bool):
            raise ConfigError("cannot be searched, only single numbers, names and booleans can")
        return "CategoricalParameterRanges", parts, {"Name": name, "Values": parts}
    low, high, scale = (*parts, "auto")[:3] if len(parts) in (2, 3) else ("", "", "")
    try:
        in_order = float(low) < float(high) and (scale != "log" or float(low) > 0)
    except ValueError:
        in_order = False
    if not in_order or scale not in _SCALES:
        raise ConfigError("expected low:high or low:high:scale, such as 0.001:0.1:log; scales are linear, log, auto")
    kind = "IntegerParameterRanges" if hint is int else "ContinuousParameterRanges"
    if hint is int and float(low).is_integer() and float(high).is_integer():
        low, high = str(int(float(low))), str(int(float(high)))  # SageMaker does not read 1e2
    return kind, [low, high], {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": _SCALES[scale]}


def refuse_restarts(hyperparameters: Mapping[str, str], *, spot: bool) -> None:
    """Raise ConfigError for a spot job that would forget its checkpoint at each interruption."""
    if spot and hyperparameters.get("resume") == "never":
        raise ConfigError(
            "--resume never starts a spot job anew at each interruption; leave it out, each job begins anew"
        )


def as_text(value: Any) -> str:
    """A value as SageMaker's string."""
    return json.dumps(value) if isinstance(value, dict) else show(value)
