#!/usr/bin/env python3
"""Run the job on SageMaker: `submit.py COMMAND [flags] [-- flags of the command in the container]`."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from any folder

from config import TrainConfig
from jobs.account import SetupOptions, setup_command
from jobs.common import SUBMIT, Connection, DryRun, JobLocation, JobName, Polling, Words
from jobs.download import DownloadOptions, download_command
from jobs.ecr import PushOptions, push_command
from jobs.endpoint import EndpointOptions, deploy, remove
from jobs.evaluation import EvaluationOptions, evaluate
from jobs.expiry import ExpiryOptions
from jobs.folds import FoldOptions, cross_validate
from jobs.hyperparameters import with_auto
from jobs.job import stop_command
from jobs.logs import logs_command
from jobs.placeholders import placeholders
from jobs.registry import RegistryOptions, register
from jobs.scaling import AsyncOptions
from jobs.serverless import ServerlessOptions
from jobs.status import StatusOptions, status_command
from jobs.training import train
from jobs.training_options import TrainingOptions
from jobs.transform import TransformOptions, transform
from jobs.tuning import TuningOptions, tune
from jobs.watch import wait_command
from options.evaluation import EvaluationConfig
from runtime.arguments import SubCommand, parse, parse_command
from runtime.errors import ConfigError
from runtime.failure import run

_DESCRIPTION = """Run the job on SageMaker. `submit.py COMMAND --help` lists the flags of a command.

With --dry-run, nothing is sent and no account is needed (`setup` needs --account): the exact requests are printed as
JSON, with placeholders for a role, bucket or region that is not given. Every request is checked against AWS's own
description of it before anything is uploaded."""


@dataclass(frozen=True, kw_only=True)
class Command(SubCommand):
    """A command of submit.py; `run` gets one instance of each class in `schema`.

    `passes` are the program in the container whose flags may follow after `--`, and its options; `run` gets these
    words as its last argument.
    """

    run: Callable[..., None]
    passes: tuple[str, type[Any]] | None = None


def _command(run: Callable[..., None], help: str, *schema: type[Any]) -> Command:
    return Command(run=run, help=help, schema=schema)


def _passing(run: Callable[..., None], help: str, *schema: type[Any], passes: tuple[str, type[Any]]) -> Command:
    """Return a command that passes on the words after `--`."""
    return Command(run=run, help=help, schema=schema, usage=f"[flags] [-- flags of code/{passes[0]}]", passes=passes)


def _about(run: Callable[..., None], help: str, *schema: type[Any]) -> Command:
    """Return a command about a job that exists, whose name comes first."""
    return Command(run=run, help=help, schema=(Connection, JobName, *schema), usage="JOB [flags]", first="job")


_TRAIN, _EVALUATE = ("train.py", TrainConfig), ("evaluation.py", EvaluationConfig)
COMMANDS = {
    "setup": _command(setup_command, "create a bucket and a role, once per account", Connection, SetupOptions),
    "push": _command(push_command, "push the image to ECR", Connection, PushOptions),
    "train": _passing(train, "start a training job", *SUBMIT, TrainingOptions, passes=_TRAIN),
    "cv": _passing(
        cross_validate, "start a training job for each fold", *SUBMIT, TrainingOptions, FoldOptions, passes=_TRAIN
    ),
    "tune": _passing(tune, "search for hyperparameters", *SUBMIT, TrainingOptions, TuningOptions, passes=_TRAIN),
    "transform": _command(transform, "label images with a model (batch transform)", *SUBMIT, TransformOptions),
    "evaluate": _passing(
        evaluate, "compare predictions with the ground truth", *SUBMIT, EvaluationOptions, passes=_EVALUATE
    ),
    "deploy": _command(
        deploy,
        "create an endpoint, which costs until `remove`",
        *(*SUBMIT, EndpointOptions, ServerlessOptions, AsyncOptions, ExpiryOptions),
    ),
    "register": _command(
        register, "add a model to the model registry", Connection, JobLocation, DryRun, RegistryOptions
    ),
    "status": _about(
        status_command, "print the state of a job, a cross-validation or an endpoint, and what it costs", StatusOptions
    ),
    "logs": _about(logs_command, "print the log of a job to its end", Polling),
    "wait": _about(wait_command, "wait for the end of a job; exit code 1 if it failed", Polling),
    "stop": _about(stop_command, "stop a job; training saves a checkpoint and the model"),
    "download": _about(download_command, "download the files of a job", DownloadOptions),
    "remove": _about(remove, "delete an endpoint and everything that was created with it"),
}


def main(argv: Words, environ: Mapping[str, str]) -> None:
    """Read the command and run it; raise ConfigError that names every mistake on the line, JobError if it fails."""
    at = argv.index("--") if "--" in argv else len(argv)
    words, passed = argv[:at], argv[at + 1 :]
    problems = []
    command = COMMANDS.get(words[0]) if words else None
    defaults, sentence = placeholders(words[1:], environ, command.schema) if command else ({}, "")
    try:
        name, options = parse_command("submit.py", words, {**environ, **defaults}, COMMANDS, description=_DESCRIPTION)
    except ConfigError as error:
        problems.append(str(error))
    if command and at < len(argv):
        try:
            _check_passed(words[0], command, passed)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    if sentence:
        print(sentence, file=sys.stderr)
    COMMANDS[name].run(*options, *([passed] if COMMANDS[name].passes else []))


def _check_passed(name: str, command: Command, passed: Words) -> None:
    """Raise ConfigError for words after `--` that the program in the container rejects."""
    if command.passes is None:
        raise ConfigError(f"`{name}` takes no arguments after --")
    program, options = command.passes
    parse(program, with_auto(passed) if options is TrainConfig else passed, {}, options)


def _main() -> None:
    """Run the command; `submit.py logs JOB | head` ends when `head` does."""
    try:
        try:
            main(sys.argv[1:], os.environ)
        finally:
            sys.stdout.flush()  # --help ends the process before it returns
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run(_main, needs_reader="logs" in sys.argv[1:2])
