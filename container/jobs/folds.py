"""`submit.py cv`: cross-validation, a training job for each fold; `submit.py download` joins them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config import TrainConfig
from data.readers import LAYOUTS, find_dataset
from data.several_labels import apply_task
from data.split import check_folds
from jobs.aws import Aws
from jobs.checks import name_problems
from jobs.common import Connection, SecureJobLocation, SubmitOptions, Words, unique_name
from jobs.ecr import job_image
from jobs.hyperparameters import read_hyperparameters, with_recipe
from jobs.inputs import existing_inputs
from jobs.instances import describe_instances, encryption, waste
from jobs.job import fold_name
from jobs.plan import Plan, submit_plan
from jobs.training import check_restarts, training_channels, training_job
from jobs.training_options import TrainingOptions
from jobs.watch import wait
from labels import require_one_label
from options.cv import FOLDS
from runtime.arguments import option
from runtime.errors import ConfigError
from sagemaker_limits import NAME_LENGTH


@dataclass(frozen=True, kw_only=True)
class FoldOptions:
    """The folds."""

    folds: int = option(FOLDS, "number of folds, each of which is a training job", minimum=2, maximum=100)


def cross_validate(
    connection: Connection,
    location: SecureJobLocation,
    submit: SubmitOptions,
    training: TrainingOptions,
    options: FoldOptions,
    hyperparameter_words: Words,
) -> None:
    """Submit a training job for each fold, all at once; print the name that they have in common.

    With `--wait`, wait for all of them. Raises JobError if one could not start, and JobFailed if one failed.
    """
    hyperparameters = read_hyperparameters(hyperparameter_words)
    check_cross_validation(training, options.folds, hyperparameters)
    check_restarts(hyperparameters, training)
    aws, name = Aws(connection), unique_name(training.name)
    channels, uploads = training_channels(location, training, hyperparameters, None if submit.dry_run else aws)
    image = job_image(aws, location)
    hyperparameters = with_recipe(hyperparameters, channels)
    numbers = range(1, options.folds + 1)
    calls = tuple(
        training_job(
            fold_name(name, number),
            location,
            training,
            image,
            channels=channels,
            hyperparameters={**hyperparameters, "fold": f"{number}/{options.folds}"},
        )
        for number in numbers
    )
    plan = Plan(
        job=f"{fold_name(name, 1)} to {options.folds}",
        location=location,
        image=image,
        calls=calls,
        uploads=uploads,
        kms_key=location.kms_key,
        encryption=encryption(training.instance_type, location.kms_key),
        instances=describe_instances(
            training.instance_type, options.folds * training.instance_count, spot=training.spot
        ),
        waste=waste(training.instance_type, uses_all_gpus=True),
        needed_uris=existing_inputs(channels.values(), uploads),
        instance_hours=options.folds * training.billed_hours,
        longest=f"{options.folds} jobs at once, each {training.longest}",
        results=location.uri("training") + "/",
        are_independent=True,
    )
    submit_plan(aws, plan, dry_run=submit.dry_run, price_per_hour=submit.price_per_hour)
    if submit.dry_run:
        return
    print(name, flush=True)
    print(f"next: submit.py status {name} | wait {name} | stop {name} | download {name}", file=sys.stderr)
    if submit.wait:
        wait(aws, name, submit.poll_seconds)


def check_cross_validation(training: TrainingOptions, folds: int, hyperparameters: Mapping[str, str]) -> None:
    """Raise ConfigError that names every option that contradicts it, DataError for local data without so many folds."""
    problems = name_problems(training.name, most=NAME_LENGTH - len(fold_name(unique_name(""), folds)))
    if "fold" in hyperparameters:
        problems.append("--fold: every job gets its own; leave it out, or use `submit.py train`")
    if training.validation_data:
        problems.append("--validation-data: cross-validation validates with the training images; leave it out")
    if training.resume_from:
        problems.append(
            "--resume-from: a fold is resumed by `submit.py train --resume-from NAME-fold-k ... -- --fold k/n`; "
            "leave it out"
        )
    if problems:
        raise ConfigError("; ".join(problems))
    dataset, folder = hyperparameters.get("dataset", TrainConfig.dataset), Path(training.data)
    if folder.is_dir():
        found = find_dataset(dataset, folder, "--data")
        samples = apply_task(LAYOUTS[found].read(folder, "--data"), hyperparameters.get("task", TrainConfig.task))
        require_one_label(samples.scheme, "cross-validation", f"use submit.py train ... -- --fold 1/{folds}: {folder}")
        check_folds(samples, folds, found)
