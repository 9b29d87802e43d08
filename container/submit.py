#!/usr/bin/env python3
"""Submit the job to SageMaker: `submit.py COMMAND [flags] [-- flags of the verb]`.

    setup       make a bucket and a role, once per account
    push        push the image to ECR
    train       a training job; hyperparameters follow after --, as for code/train.py
    tune        a search for hyperparameters
    transform   label images with a model (batch transform)
    evaluate    compare labels with the truth (processing job); flags of code/evaluation.py follow after --
    deploy      a real-time endpoint; `remove` takes it down again
    register    a version in the model registry, with its evaluation

    status JOB     how a job or an endpoint stands
    logs JOB       its log, to the end of the job
    wait JOB       stay until it is over; exit code 1 if it failed
    stop JOB       save a checkpoint and the best model, then end
    download JOB   what it left in S3
    remove NAME    delete an endpoint, its configuration and its model

`submit.py COMMAND --help` lists the flags. With --dry-run nothing is sent and no credentials are needed (`setup` needs
--account then): the exact requests are printed as JSON. Each request is checked against AWS's own description of it
before anything is uploaded.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "code"))  # so that it runs from anywhere, as it lies

from jobs import job_commands
from jobs.account import setup
from jobs.aws import Aws, AwsError
from jobs.common import Connection, Download, Patience, Push, Setup, Submitted
from jobs.download import download
from jobs.ecr import push
from jobs.job_commands import Environ, Words
from jobs.logs import follow_log
from jobs.watch import find, stop, wait
from runtime.arguments import parse
from runtime.errors import ConfigError, JobError, unknown_name
from runtime.failure import run

_WITH_VERB_FLAGS = ("train", "tune", "evaluate")  # what follows -- is for the verb in the container


def main(argv: Words, environ: Environ) -> None:
    """Read the command and carry it out; raises JobError for everything that a person can mend."""
    command, *words = argv or ["--help"]
    if command in ("-h", "--help"):
        print(__doc__)
        return
    if command not in COMMANDS:
        raise ConfigError(unknown_name("command", command, COMMANDS, most=len(COMMANDS)))
    at = words.index("--") if "--" in words else len(words)
    if at < len(words) and command not in _WITH_VERB_FLAGS:
        raise ConfigError(f"{command} hands no flags on; leave out -- and what follows")
    COMMANDS[command](words[:at], words[at + 1 :], environ)


def _setup(flags: Words, verb_flags: Words, environ: Environ) -> None:
    connection, options = parse("submit.py setup", flags, environ, Connection, Setup)
    setup(Aws(connection), options)


def _push(flags: Words, verb_flags: Words, environ: Environ) -> None:
    connection, options = parse("submit.py push", flags, environ, Connection, Push)
    print(push(Aws(connection), options))


def _status(flags: Words, verb_flags: Words, environ: Environ) -> None:
    aws, name = _submitted("status", flags, environ)
    job = find(aws, name)
    print(f"{job.title}  {job.line()}")
    if reason := job.facts.get("FailureReason"):
        print(reason)


def _logs(flags: Words, verb_flags: Words, environ: Environ) -> None:
    connection, submitted, patience = parse("submit.py logs", _named(flags), environ, Connection, Submitted, Patience)
    follow_log(Aws(connection), submitted.job, patience.poll_seconds).check_end()


def _wait(flags: Words, verb_flags: Words, environ: Environ) -> None:
    connection, submitted, patience = parse("submit.py wait", _named(flags), environ, Connection, Submitted, Patience)
    print(wait(Aws(connection), submitted.job, patience.poll_seconds).line())


def _stop(flags: Words, verb_flags: Words, environ: Environ) -> None:
    aws, name = _submitted("stop", flags, environ)
    print(f"{stop(aws, name).title} was asked to stop; `submit.py wait {name}` sees it end")


def _download(flags: Words, verb_flags: Words, environ: Environ) -> None:
    schema = (Connection, Submitted, Download)
    connection, submitted, options = parse("submit.py download", _named(flags), environ, *schema)
    for path in download(Aws(connection), submitted.job, options.to, options.info):
        print(path)


def _remove(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """Delete the endpoint, its configuration and the model of that name, whichever there are."""
    aws, name = _submitted("remove", flags, environ)
    removed = [noun for noun in ("Endpoint", "EndpointConfig", "Model") if _delete(aws, noun, name)]
    if not removed:
        raise JobError(f"no endpoint and no model is called {name!r} in {aws.region}")
    print(f"removed {name}: {', '.join(removed)}")


def _delete(aws: Aws, noun: str, name: str) -> bool:
    """Whether there was one."""
    try:
        aws.call("sagemaker", f"Describe{noun}", **{f"{noun}Name": name})
    except AwsError as error:
        if not error.is_absent:
            raise
        return False
    aws.call("sagemaker", f"Delete{noun}", **{f"{noun}Name": name})
    return True


def _submitted(command: str, flags: Words, environ: Environ) -> tuple[Aws, str]:
    connection, submitted = parse(f"submit.py {command}", _named(flags), environ, Connection, Submitted)
    return Aws(connection), submitted.job


def _named(flags: Words) -> Words:
    """`wait NAME` is short for `wait --job NAME`."""
    return ["--job", *flags] if flags and not flags[0].startswith("-") else flags


COMMANDS: dict[str, Callable[[Words, Words, Environ], None]] = {
    "setup": _setup,
    "push": _push,
    "train": job_commands.train,
    "tune": job_commands.tune,
    "transform": job_commands.transform,
    "evaluate": job_commands.evaluate,
    "deploy": job_commands.deploy,
    "register": job_commands.register,
    "status": _status,
    "logs": _logs,
    "wait": _wait,
    "stop": _stop,
    "download": _download,
    "remove": _remove,
}


def _main() -> None:
    """The command; in `submit.py logs JOB | head` nobody reads on, which is no mistake."""
    try:
        main(sys.argv[1:], os.environ)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run(_main)
