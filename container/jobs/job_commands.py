"""The commands that submit something: read the flags, put the plan together, offer it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from config import EvaluationConfig
from data.images import is_image_file
from data.predictions import read_predictions
from data.tables import GT_CSV, OUTPUT_CSV, SCHEME_JSON
from jobs.aws import Aws, AwsError
from jobs.checks import name_problems
from jobs.common import Connection, JobPlace, Place, Rehearsal, Submission
from jobs.ecr import commit_tag
from jobs.hyperparameters import read_hyperparameters, read_search, refuse_restarts
from jobs.inputs import needed_there, refuse_large, stage, training_channels
from jobs.instances import evaluation_uri, has_other_chip, has_several_gpus, image_uri, model_uri
from jobs.job_options import Deployment, Evaluation, Registration, Training, Transform, Tuning
from jobs.plan import Plan, offer
from jobs.resuming import check_resumable, checkpoints_of
from jobs.training import most_epochs, processing_job, training_job, tuning_job
from jobs.transform import endpoint, model, model_package, model_package_group, transform_job
from jobs.watch import wait
from metrics import metric_definitions
from runtime.arguments import parse
from runtime.errors import ConfigError, unknown_name

Words = Sequence[str]
Environ = Mapping[str, str]

_SUBMIT = (Connection, JobPlace, Rehearsal, Submission)
_TUNING_NAME = 32  # characters, SageMaker's limit for a tuning job


def train(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py train [flags] -- [hyperparameters]`."""
    connection, place, rehearsal, submission, options = parse("submit.py train", flags, environ, *_SUBMIT, Training)
    hyperparameters = read_hyperparameters(verb_flags)
    refuse_restarts(hyperparameters, spot=options.spot)
    aws, job = Aws(connection), _job_name(options.name)
    channels, uploads = training_channels(place, options, hyperparameters.get("dataset", ""))
    image = _image(aws, place)
    resumed = (checkpoints_of(place, options.resume_from),) if options.resume_from else ()
    if resumed and not rehearsal.dry_run:
        check_resumable(aws, place, options.resume_from, hyperparameters)
    call = training_job(job, place, options, image, channels=channels, hyperparameters=hyperparameters)
    plan = Plan(
        job=job,
        place=place,
        image=image,
        calls=(call,),
        uploads=uploads,
        kms_key=place.kms_key,
        machines=_machines(options.instance_type, spot=options.spot),
        waste=_waste(options.instance_type),
        needed_uris=needed_there(channels.values(), uploads) + resumed,
        machine_hours=options.max_hours + options.warm_pool_minutes / 60,
        longest=_longest(options),
        resumes="".join(resumed),
        results=place.uri("training", job) + "/",
    )
    _submit(aws, plan, rehearsal, submission)


def tune(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py tune --search lr=0.001:0.1:log [flags] -- [hyperparameters that stay]`."""
    schema = (*_SUBMIT, Training, Tuning)
    connection, place, rehearsal, submission, training, tuning = parse("submit.py tune", flags, environ, *schema)
    hyperparameters, ranges = read_hyperparameters(verb_flags), read_search(tuning.search, verb_flags)
    _check_tuning(training, tuning, hyperparameters)
    aws, job = Aws(connection), _job_name(training.name)
    channels, uploads = training_channels(place, training, hyperparameters.get("dataset", ""))
    image = _image(aws, place)
    options = (training, tuning)
    call = tuning_job(job, place, options, image, channels=channels, hyperparameters=hyperparameters, ranges=ranges)
    plan = Plan(
        job=job,
        place=place,
        image=image,
        calls=(call,),
        uploads=uploads,
        kms_key=place.kms_key,
        machines=_machines(training.instance_type, tuning.max_parallel_jobs, spot=training.spot),
        waste=_waste(training.instance_type),
        needed_uris=needed_there(channels.values(), uploads),
        machine_hours=tuning.max_jobs * (training.max_hours + training.warm_pool_minutes / 60),
        longest=f"{tuning.max_jobs} jobs, each {_longest(training)}",
        results=place.uri("training") + "/",
    )
    _submit(aws, plan, rehearsal, submission)


def transform(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py transform --model JOB --data DIR [flags]`."""
    schema = (*_SUBMIT, Transform)
    connection, place, rehearsal, submission, options = parse("submit.py transform", flags, environ, *schema)
    aws, job = Aws(connection), _job_name(options.name)
    data, uploads = stage(place, "data", options.data, is_image_file, "images")
    refuse_large(uploads, options.max_payload_mb)
    image, artifact = _image(aws, place), model_uri(place, options.model)
    plan = Plan(
        job=job,
        place=place,
        image=image,
        calls=(model(job, place, image, artifact, ""), transform_job(job, place, options, data)),
        uploads=uploads,
        kms_key=place.kms_key,
        needed_uris=(artifact, *needed_there([data], uploads)),
        machines=_machines(options.instance_type, options.instance_count),
        waste=_waste(options.instance_type),
        longest="until every image has its answer: a transform has no time limit of its own",
        results=place.uri("transform", job) + "/",
    )
    _submit(aws, plan, rehearsal, submission)


def evaluate(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py evaluate --predictions DIR --ground-truth DIR [flags] -- [flags of code/evaluation.py]`."""
    schema = (*_SUBMIT, Evaluation)
    connection, place, rehearsal, submission, options = parse("submit.py evaluate", flags, environ, *schema)
    parse("evaluation.py", verb_flags, {}, EvaluationConfig)
    aws, job = Aws(connection), _job_name(options.name)
    predictions, first = stage(
        place, "predictions", options.predictions, (OUTPUT_CSV, SCHEME_JSON).__contains__, OUTPUT_CSV
    )
    truths, second = stage(place, "ground-truth", options.ground_truth, lambda name: name.endswith(".csv"), GT_CSV)
    if first and second:
        read_predictions(Path(options.ground_truth), Path(options.predictions))
    inputs, image = {"predictions": predictions, "ground_truth": truths}, _image(aws, place)
    plan = Plan(
        job=job,
        place=place,
        image=image,
        calls=(processing_job(job, place, options, image, inputs=inputs, arguments=verb_flags),),
        uploads=first + second,
        kms_key=place.kms_key,
        needed_uris=needed_there(inputs.values(), first + second),
        machines=_machines(options.instance_type),
        machine_hours=options.max_hours,
        longest=f"{options.max_hours:g} h",
        results=evaluation_uri(place, job),
    )
    _submit(aws, plan, rehearsal, submission)


def deploy(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py deploy --model JOB [flags]`."""
    schema = (*_SUBMIT, Deployment)
    connection, place, rehearsal, submission, options = parse("submit.py deploy", flags, environ, *schema)
    aws, job = Aws(connection), _job_name(options.name)
    image, artifact = _image(aws, place), model_uri(place, options.model)
    plan = Plan(
        job=job,
        place=place,
        image=image,
        calls=(model(job, place, image, artifact, options.environment), *endpoint(job, place, options)),
        needed_uris=(artifact,),
        machines=_machines(options.instance_type, options.instance_count),
        waste=_waste(options.instance_type),
        longest=f"until it is removed: `submit.py remove {job}`",
    )
    _submit(aws, plan, rehearsal, submission)


def register(flags: Words, verb_flags: Words, environ: Environ) -> None:
    """`submit.py register --model JOB --evaluation JOB [flags]`; the group is made if it is absent."""
    schema = (Connection, Place, Rehearsal, Registration)
    connection, place, rehearsal, options = parse("submit.py register", flags, environ, *schema)
    aws = Aws(connection)
    image = _image(aws, place)
    calls = [model_package_group(place, options), model_package(place, options, image)]
    if not rehearsal.dry_run and _has_group(aws, options.group):
        del calls[0]
    needed = (model_uri(place, options.model), evaluation_uri(place, options.evaluation))
    plan = Plan(job=options.group, place=place, image=image, calls=tuple(calls), needed_uris=needed)
    answers = offer(aws, plan, dry_run=rehearsal.dry_run)
    if answers:
        print(answers[-1]["ModelPackageArn"])


def _submit(aws: Aws, plan: Plan, rehearsal: Rehearsal, submission: Submission) -> None:
    """Offer the plan; then the job's name goes to stdout, for scripts, and what to do next to stderr."""
    offer(aws, plan, dry_run=rehearsal.dry_run, price_per_hour=submission.price_per_hour)
    if rehearsal.dry_run:
        return
    print(plan.job, flush=True)
    print("next: submit.py " + " | ".join(f"{command} {plan.job}" for command in _next(plan)), file=sys.stderr)
    if submission.wait:
        wait(aws, plan.job, submission.poll_seconds)


def _next(plan: Plan) -> tuple[str, ...]:
    """What is done with a job that was just submitted."""
    match plan.calls[-1].operation:
        case "CreateEndpoint":
            return "wait", "logs", "remove"
        case "CreateHyperParameterTuningJob":
            return "wait", "download", "stop"
    return "logs", "wait", "download", "stop"


def _job_name(name: str) -> str:
    """The name and the time in UTC, to the millisecond: no two jobs of an account may have the same name."""
    now = datetime.now(UTC)
    return f"{name}-{now:%y%m%d-%H%M%S}{now.microsecond // 1000:03}"


def _image(aws: Aws, place: Place) -> str:
    return place.image or image_uri(place, aws.region, commit_tag())


def _check_tuning(training: Training, tuning: Tuning, hyperparameters: Mapping[str, str]) -> None:
    names = [name for metric in metric_definitions() if (name := metric["Name"]).startswith("val:")]
    problems = name_problems(training.name, most=_TUNING_NAME - len(_job_name("")))
    if tuning.objective not in names:
        problems.append("--objective: " + unknown_name("metric", tuning.objective, names, most=len(names)))
    if tuning.strategy == "Hyperband" and most_epochs(hyperparameters) < 2:
        problems.append(
            "--strategy Hyperband: needs several epochs to choose from; give the most, as in -- --epochs 30"
        )
    if training.resume_from:
        problems.append("--resume-from: the jobs of a search share no checkpoint; leave it out")
    if problems:
        raise ConfigError("; ".join(problems))


def _has_group(aws: Aws, group: str) -> bool:
    try:
        aws.call("sagemaker", "DescribeModelPackageGroup", ModelPackageGroupName=group)
    except AwsError as error:
        if not error.is_absent:
            raise
        return False
    return True


def _machines(instance_type: str, count: int = 1, *, spot: bool = False) -> str:
    return f"{count} x {instance_type}{', spot' if spot else ''}"


def _waste(instance_type: str) -> str:
    if has_several_gpus(instance_type):
        return f"{instance_type} has several GPUs, the job uses one; take a machine with one, such as ml.g5.xlarge"
    if has_other_chip(instance_type):
        return f"{instance_type} has no chip that the job can use beside its CPU; take ml.g4dn, g5, g6 or newer"
    return ""


def _longest(options: Training) -> str:
    waiting = f", over after {options.wait_hours:g} h with waiting" if options.spot else ""
    return f"{options.max_hours:g} h of training{waiting}"
