#!/usr/bin/env python3
"""PID 1 of the container: from what SageMaker left under /opt/ml to a verb that runs.

    launch.py train | infer | evaluate | serve [flags of the verb]

The verb takes the place of this process (exec, no shell), so the SIGTERM of `docker stop`, of StopTrainingJob and of a
spot instance reaches the code that can save. Hyperparameters become flags; flags on the command line win over them,
and variables that the caller set win over what is found. What the verb would refuse is refused here, at no cost.

A word that is no verb but a program of the image is started as it is: SageMaker's SDK does its `chmod` this way.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from config import EvaluationConfig, EvaluationPaths, InferenceConfig, InferencePaths, TrainConfig, TrainPaths
from contract import base_dir, folder_variables, training_job
from cuda_driver import driver_variables
from runtime.arguments import parse
from runtime.errors import ConfigError, unknown_name
from runtime.failure import forget_failures, guard

HOME = Path(__file__).resolve().parent.parent

# verb -> the program, and what it reads from its command line
VERBS: dict[str, tuple[str, tuple[type[Any], ...]]] = {
    "train": ("code/train.py", (TrainPaths, TrainConfig)),
    "infer": ("code/inference.py", (InferencePaths, InferenceConfig)),
    "evaluate": ("code/evaluation.py", (EvaluationPaths, EvaluationConfig)),
    "serve": ("container/serve.py", ()),
}


def main() -> None:
    """The command, and what sagemaker-training's own `train` calls (SAGEMAKER_TRAINING_MODULE=launch:main)."""
    # The kernel hands PID 1 no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    try:
        guard(lambda: launch(sys.argv))
    except SystemExit as leaving:
        # sagemaker-training ends with exit code 0 whatever its module exits with; it must not get the chance.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(leaving.code or 0))


def launch(argv: Sequence[str]) -> NoReturn:
    """Become the verb that `argv` names, with its flags and its SM_* variables; raises a JobError instead."""
    if program := _other_program(argv):
        os.execve(program, list(argv[1:]), os.environ)  # noqa: S606
    base = base_dir(os.environ)
    os.environ.setdefault("SM_OUTPUT_DIR", str(base / "output"))  # from here on there is a place for the failure file
    forget_failures()
    verb, flags = _read_verb(argv)
    variables = folder_variables(verb, base)
    if "SM_MESSAGE_FILE" in variables:
        os.environ.setdefault("SM_MESSAGE_FILE", variables["SM_MESSAGE_FILE"])
        forget_failures()
    if verb == "train":
        job_variables, hyperparameters = training_job(base)
        variables, flags = job_variables | variables, [*hyperparameters, *flags]
    environ = variables | os.environ

    script, schema = VERBS[verb]
    if schema:
        parse(verb, flags, environ, *schema)
    environ |= driver_variables(environ)
    if int(environ.get("SM_NUM_GPUS") or 0) > 1:
        print(f"training uses one of the {environ['SM_NUM_GPUS']} GPUs of this host")
    print(" ".join([verb, *flags]), flush=True)
    os.execve(sys.executable, [sys.executable, str(HOME / script), *flags], environ)  # noqa: S606


def _other_program(argv: Sequence[str]) -> str | None:
    """Where the program lies that the first word names, if it is no verb."""
    if len(argv) < 2 or {Path(argv[0]).name, Path(argv[1]).name} & VERBS.keys():
        return None
    return shutil.which(argv[1])


def _read_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The verb and its flags; the verb is the command's own name if it was started as `train`, `serve` and so on."""
    words = list(argv) if Path(argv[0]).name in VERBS else list(argv[1:])
    if not words:
        raise ConfigError(f"no verb, expected one of {', '.join(VERBS)}")
    verb = Path(words[0]).name
    if verb not in VERBS:
        raise ConfigError(unknown_name("verb", words[0], VERBS))
    return verb, words[1:]


if __name__ == "__main__":
    main()
