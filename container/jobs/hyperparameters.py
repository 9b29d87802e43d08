"""Hyperparameters of a SageMaker job, read by the same rules as code/train.py, so that a typo costs nothing."""

import json
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from config import TrainConfig
from jobs.common import Words
from runtime.arguments import parse, upgrade
from runtime.conversion import show

TYPES = typing.get_type_hints(TrainConfig)
_CURRENT_NAMES = {old: field.name for field in fields(TrainConfig) for old in field.metadata.get("old_names", ())}


def read_hyperparameters(words: Words) -> dict[str, str]:
    """Return `--epochs 30 --resize 128 96` as SageMaker's strings: {"epochs": "30", "resize": "128,96"}.

    Only what is given is included. Raises ConfigError as code/train.py does.
    """
    (config,) = parse("train.py", words, {}, TrainConfig)
    flags = [word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")]
    given = {_CURRENT_NAMES.get(flag, flag) for flag in flags}
    return {name: as_text(getattr(config, name)) for name in TYPES if name in given}


def current_hyperparameters(stored: Mapping[str, str]) -> dict[str, str]:
    """Return the hyperparameters of an earlier job under the current names and values, and some more as defaults."""
    return {name: value for name, value in upgrade(stored, TrainConfig).items() if isinstance(value, str)}


def default_hyperparameters() -> dict[str, str]:
    """Return all hyperparameters of code/train.py with their defaults."""
    (config,) = parse("train.py", [], {}, TrainConfig)
    return {name: as_text(getattr(config, name)) for name in TYPES}


def as_text(value: Any) -> str:
    """Return a value as SageMaker's string."""
    return json.dumps(value) if isinstance(value, dict) else show(value)
