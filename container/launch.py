#!/usr/bin/env python3
"""PID 1 of the container: read what SageMaker left in /opt/ml, then become the command.

    launch.py train | cv | infer | evaluate | audit | serve [flags of the command]
    launch.py --help | --version

The command replaces this process (exec, no shell), so that the SIGTERM of `docker stop`, of StopTrainingJob and of a
spot instance reaches the code that can save. `train` with several GPUs or hosts becomes the launcher of its workers
(code/training/workers_main.py). Hyperparameters become flags; flags on the command line override them, and
variables of the caller override those that are set here. Wrong flags are rejected before the command starts.

Any other word that is an executable of the image is started unchanged: SageMaker's SDK runs its `chmod` this way.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from commands import COMMANDS, Command
from contract import (
    BASE_DIR_VARIABLE,
    CHECKPOINT_VARIABLE,
    base_dir,
    check_unread,
    failure_variables,
    folder_variables,
    given_variables,
    training_job,
)
from cuda_driver import driver_variables
from runtime.arguments import override, parse
from runtime.errors import ConfigError, unknown_name
from runtime.failure import guard, remove_old_failures
from runtime.version import NAME, version

HOME = Path(__file__).resolve().parent.parent


def main() -> None:
    """Launch the command; sagemaker-training's own `train` calls this too (SAGEMAKER_TRAINING_MODULE=launch:main)."""
    # The kernel delivers to PID 1 only the signals that it handles.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    try:
        guard(lambda: launch(sys.argv))
    except SystemExit as leaving:
        # sagemaker-training turns every exit code of its module into 0, so the process ends here.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(leaving.code or 0))


def launch(argv: Sequence[str]) -> NoReturn:
    """Become the command that `argv` names, with its flags and its SM_* variables; raise a JobError if it is wrong."""
    if executable := _other_executable(argv):
        os.execve(executable, list(argv[1:]), os.environ)  # noqa: S606
    base = base_dir(os.environ)
    os.environ[BASE_DIR_VARIABLE] = str(base)  # sagemaker-training reads it, too, and takes an empty one as it is
    for variable, path in failure_variables(base).items():
        os.environ[variable] = os.environ.get(variable) or path
    remove_old_failures()
    command, flags = _read_command(argv)
    if not (HOME / command.script).is_file():
        raise ConfigError(f"this image has no command {command.name!r}; use the image that `make image` builds")
    variables, channels = folder_variables(command, base), []
    if command.reads_hyperparameters:
        job_variables, hyperparameters = training_job(base)
        variables, channels = job_variables | variables, json.loads(job_variables["SM_CHANNELS"])
        flags = [*override(hyperparameters, flags, *command.options), *flags]
    environ = variables | given_variables(os.environ, {*folder_variables(command, base), CHECKPOINT_VARIABLE})

    if command.options:
        parse(command.name, flags, environ, *command.options)
    for warning in check_unread(command, base, channels, environ, flags):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    environ |= driver_variables(environ)
    print(" ".join([command.name, *flags]), flush=True)
    os.execve(sys.executable, [sys.executable, str(HOME / command.script), *flags], environ)  # noqa: S606


def _other_executable(argv: Sequence[str]) -> str | None:
    """Return the path of the executable that the first word names, or None if it is a command of the image."""
    if len(argv) < 2 or {Path(argv[0]).name, Path(argv[1]).name} & COMMANDS.keys():
        return None
    return shutil.which(argv[1])


def _usage() -> str:
    """Return what `--help` prints: a line for each command."""
    lines = [f"  {command.name:<12}{command.help}" for command in COMMANDS.values()]
    return "\n".join(["usage: COMMAND [flags]   (COMMAND --help lists the flags)", "", "commands:", *lines])


def _read_command(argv: Sequence[str]) -> tuple[Command, list[str]]:
    """Return the command and its flags; the command may be the name of the program itself, if that is a link to it.

    `--help` or `--version` in its place prints the commands or the version, and exits.
    """
    words = list(argv) if Path(argv[0]).name in COMMANDS else list(argv[1:])
    if not words:
        raise ConfigError(f"no command given; choose from {', '.join(COMMANDS)}")
    if words[0] in ("-h", "--help"):
        print(_usage())
        sys.exit()
    if words[0] == "--version":
        print(f"{NAME} {version()}")
        sys.exit()
    name = Path(words[0]).name
    if name not in COMMANDS:
        raise ConfigError(unknown_name("command", words[0], COMMANDS))
    return COMMANDS[name], words[1:]


if __name__ == "__main__":
    main()
