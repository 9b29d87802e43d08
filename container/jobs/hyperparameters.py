"""Hyperparameters of a SageMaker job, read by the same rules as code/train.py, so that a typo costs nothing."""

import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from config import TrainConfig
from jobs.common import Words
from recipes import AUTO, choose, explain, warning_without_weights
from runtime.arguments import flag_of, parse, upgrade
from runtime.conversion import show

TYPES = typing.get_type_hints(TrainConfig)
_CURRENT_NAMES = {old: field.name for field in fields(TrainConfig) for old in field.metadata.get("old_names", ())}


def read_hyperparameters(words: Words) -> dict[str, str]:
    """Return `--epochs 30 --resize 128 96` as SageMaker's strings: {"epochs": "30", "resize": "128,96"}.

    Only what is given is included. Raises ConfigError as code/train.py does; what depends on the recipe is checked by
    `with_recipe`, which chooses it.
    """
    (config,) = parse("train.py", with_auto(words), {}, TrainConfig)
    flags = [word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")]
    given = {_CURRENT_NAMES.get(flag, flag) for flag in flags}
    return {name: as_text(getattr(config, name)) for name in TYPES if name in given}


def with_auto(words: Words) -> list[str]:
    """Return words for code/train.py whose recipe is `auto`, unless they name one: of a flag, the last value counts."""
    return ["--recipe", AUTO, *words]


def with_recipe(
    hyperparameters: Mapping[str, str], channels: Mapping[str, str], resumes: bool = False
) -> dict[str, str]:
    """Return the hyperparameters of a job with its recipe, and print it to stderr.

    Unless they name one, it is finetune with weights to start from, else scratch. A job that `resumes` another one
    keeps the recipe that it finds in the checkpoint. Raises ConfigError for what does not fit the recipe.
    """
    pretrained, chosen = hyperparameters.get("pretrained", "auto"), dict(hyperparameters)
    has_weights = "pretrained" in channels if pretrained == "auto" else pretrained != "none"
    if hyperparameters.get("recipe", AUTO) == AUTO:
        chosen["recipe"] = AUTO if resumes else choose(has_weights=has_weights)
        said = explain(chosen["recipe"], has_weights=has_weights)
        print("recipe: that of the job to resume" if resumes else said, file=sys.stderr)
    (config,) = parse("train.py", as_words(chosen), {}, TrainConfig)
    if has_weights or resumes:
        return chosen
    options = config.recipe, config.freeze, config.freeze_epochs, config.epochs
    if warning := warning_without_weights(*options, where="--pretrained-data FILE or --from JOB"):
        print(f"warning: {warning}", file=sys.stderr)
    return chosen


def as_words(hyperparameters: Mapping[str, str]) -> list[str]:
    """Return hyperparameters as words for code/train.py, as container/launch.py passes them on."""
    return [f"{flag_of(name)}={value}" for name, value in hyperparameters.items()]


def current_hyperparameters(stored: Mapping[str, str]) -> dict[str, str]:
    """Return all hyperparameters of an earlier job under the current names and values, with those of its recipe."""
    everything = {**default_hyperparameters(stored.get("recipe", "original")), **stored}
    return {name: value for name, value in upgrade(everything, TrainConfig).items() if isinstance(value, str)}


def default_hyperparameters(recipe: str = "original") -> dict[str, str]:
    """Return all hyperparameters of code/train.py with their defaults, or what a recipe sets instead."""
    (config,) = parse("train.py", ["--recipe", recipe], {}, TrainConfig)
    return {name: as_text(getattr(config, name)) for name in TYPES}


def as_text(value: Any) -> str:
    """Return a value as SageMaker's string."""
    return json.dumps(value) if isinstance(value, dict) else show(value)
