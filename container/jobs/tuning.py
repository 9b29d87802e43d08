"""`submit.py tune`: a search for hyperparameters, whose trials are training jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config import TrainConfig
from jobs.aws import Aws
from jobs.checks import name_problems, pair_problems, pairs
from jobs.common import Connection, SecureJobLocation, SubmitOptions, Words, unique_name
from jobs.ecr import job_image
from jobs.hyperparameters import TYPES, as_words, read_hyperparameters, with_auto, with_recipe
from jobs.inputs import existing_inputs
from jobs.instances import describe_instances, encryption, waste
from jobs.plan import Plan, submit_job
from jobs.pretrained import check_pretrained
from jobs.request_parts import Call, given, tags
from jobs.training import algorithm, training_channels, training_definition
from jobs.training_options import TrainingOptions
from metrics import metric_definitions
from recipes import RECIPES
from runtime.arguments import option, parse
from runtime.errors import ConfigError, unknown_name
from sagemaker_limits import PARALLEL_TUNING_JOBS, TUNING_JOBS, TUNING_NAME_LENGTH

Ranges = Mapping[str, list[dict[str, Any]]]  # SageMaker's ParameterRanges

_SCALES = {"linear": "Linear", "log": "Logarithmic", "auto": "Auto"}


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """The search for hyperparameters."""

    search: str = option("", "search space, such as lr=0.001:0.1:log,batch_size=32:128,optimizer=SGD:AdamW")
    objective: str = option("val:f1", "validation metric to optimise: a loss is minimised, any other one maximised")
    strategy: str = option("Bayesian", "search strategy", choices=("Bayesian", "Random", "Hyperband"))
    max_jobs: int = option(20, "training jobs in all", minimum=1, maximum=TUNING_JOBS)
    max_parallel_jobs: int = option(2, "training jobs at a time", minimum=1, maximum=PARALLEL_TUNING_JOBS)
    early_stopping: bool = option(True, "early stopping of poor trials; Hyperband always has its own")

    def problems(self) -> list[str]:
        """Return a sentence for each missing option and for each that does not fit another one."""
        problems = [] if self.search else ["--search: required, such as --search lr=0.001:0.1:log"]
        if self.max_parallel_jobs > self.max_jobs:
            problems.append(f"--max-parallel-jobs: {self.max_parallel_jobs} is more than --max-jobs {self.max_jobs}")
        if self.strategy == "Hyperband" and "epochs" in pairs(self.search):
            problems.append("--search epochs: Hyperband chooses the epochs; give the maximum, such as -- --epochs 30")
        return problems + pair_problems("search", self.search)


def tune(
    connection: Connection,
    location: SecureJobLocation,
    submit: SubmitOptions,
    training: TrainingOptions,
    tuning: TuningOptions,
    fixed_words: Words,
) -> None:
    """Submit a tuning job; the words after `--` are hyperparameters that all trials share."""
    hyperparameters, ranges = read_hyperparameters(fixed_words), read_search(tuning.search, fixed_words)
    check_tuning(training, tuning)
    aws, job = Aws(connection), unique_name(training.name)
    channels, uploads = training_channels(location, training, hyperparameters, None if submit.dry_run else aws)
    for asked in pairs(tuning.search).get("pretrained", "auto").split(":"):
        check_pretrained(asked, has_channel="pretrained" in channels, network_isolation=location.network_isolation)
    if "recipe" not in pairs(tuning.search):
        hyperparameters = with_recipe(hyperparameters, channels)
        read_search(tuning.search, as_words(hyperparameters))
    check_hyperband(tuning, hyperparameters)
    image = job_image(aws, location)
    options = (training, tuning)
    call = tuning_job(job, location, options, image, channels=channels, hyperparameters=hyperparameters, ranges=ranges)
    plan = Plan(
        job=job,
        location=location,
        image=image,
        calls=(call,),
        uploads=uploads,
        kms_key=location.kms_key,
        encryption=encryption(training.instance_type, location.kms_key),
        instances=describe_instances(
            training.instance_type, tuning.max_parallel_jobs * training.instance_count, spot=training.spot
        ),
        waste=waste(training.instance_type, uses_all_gpus=True),
        needed_uris=existing_inputs(channels.values(), uploads),
        instance_hours=tuning.max_jobs * training.billed_hours,
        longest=f"{tuning.max_jobs} jobs, each {training.longest}",
        results=location.uri("training") + "/",
    )
    submit_job(aws, plan, submit)


def tuning_job(
    job: str,
    location: SecureJobLocation,
    options: tuple[TrainingOptions, TuningOptions],
    image: str,
    *,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    ranges: Ranges,
) -> Call:
    """Return CreateHyperParameterTuningJob. Its trials have no checkpoints: an interrupted one starts from scratch.

    Hyperband stops trials by itself: it needs the maximum epochs, and rejects the early stopping of other strategies.
    """
    training, tuning = options
    definition = training_definition(location, training, channels) | {
        "StaticHyperParameters": dict(hyperparameters),
        "AlgorithmSpecification": algorithm(image, training),
    }
    limits = {"MaxNumberOfTrainingJobs": tuning.max_jobs, "MaxParallelTrainingJobs": tuning.max_parallel_jobs}
    is_hyperband = tuning.strategy == "Hyperband"
    epochs = {"MinResource": 1, "MaxResource": most_epochs(hyperparameters)}
    config = {
        "Strategy": tuning.strategy,
        "StrategyConfig": {"HyperbandStrategyConfig": epochs} if is_hyperband else None,
        "HyperParameterTuningJobObjective": {
            "Type": "Minimize" if tuning.objective.endswith("loss") else "Maximize",
            "MetricName": tuning.objective,
        },
        "ResourceLimits": limits,
        "ParameterRanges": dict(ranges),
        "TrainingJobEarlyStoppingType": "Auto" if tuning.early_stopping and not is_hyperband else "Off",
    }
    request = {
        "HyperParameterTuningJobName": job,
        "HyperParameterTuningJobConfig": given(config),
        "TrainingJobDefinition": given(definition),
        "Tags": tags(location),
    }
    undo = ("StopHyperParameterTuningJob", {"HyperParameterTuningJobName": job})
    return Call("CreateHyperParameterTuningJob", given(request), undo)


def most_epochs(hyperparameters: Mapping[str, str]) -> int:
    """Return the maximum epochs of one trial."""
    recipe = RECIPES.get(hyperparameters.get("recipe", "original"), {})
    return int(hyperparameters.get("epochs", recipe.get("epochs", TrainConfig.epochs)))


def check_hyperband(tuning: TuningOptions, hyperparameters: Mapping[str, str]) -> None:
    """Raise ConfigError if Hyperband, which divides the epochs, has one alone, that of the recipe counted."""
    if tuning.strategy == "Hyperband" and most_epochs(hyperparameters) < 2:
        raise ConfigError(
            "--strategy Hyperband: needs several epochs to choose from; give the maximum, as in -- --epochs 30"
        )


def check_tuning(training: TrainingOptions, tuning: TuningOptions) -> None:
    """Raise ConfigError that names everything in a search that SageMaker rejects."""
    names = [name for metric in metric_definitions() if (name := metric["Name"]).startswith("val:")]
    problems = name_problems(training.name, most=TUNING_NAME_LENGTH - len(unique_name("")))
    if tuning.objective not in names:
        problems.append("--objective: " + unknown_name("metric", tuning.objective, names, most=len(names)))
    if training.resume_from:
        problems.append("--resume-from: a search cannot be resumed, its jobs have no checkpoints; leave it out")
    if problems:
        raise ConfigError("; ".join(problems))


def read_search(text: str, fixed: Words) -> dict[str, list[dict[str, Any]]]:
    """Return `lr=0.001:0.1:log,optimizer=SGD:AdamW` as SageMaker's ParameterRanges.

    Numbers are a range low:high, with a scale (linear, log, auto) if wanted; names and booleans are a choice. `fixed`
    are the flags that all trials share. Raises ConfigError that names everything that code/train.py rejects.
    """
    names = [name.replace("-", "_") for name in pairs(text)]
    problems = [f"--search: {name!r} is given twice" for name in sorted(set(names)) if names.count(name) > 1]
    kinds = ("ContinuousParameterRanges", "IntegerParameterRanges", "CategoricalParameterRanges")
    ranges: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for name, choice in pairs(text).items():
        name = name.replace("-", "_")
        try:
            if name not in TYPES:
                raise ConfigError(unknown_name("hyperparameter", name, TYPES, most=3))
            if name in read_hyperparameters(fixed):
                raise ConfigError("has a fixed value after -- as well; leave out one of them")
            kind, values, entry = _read_range(name, choice.split(":"))
            for value in values:
                parse("train.py", [*with_auto(fixed), f"--{name}", value], {}, TrainConfig)
            ranges[kind].append(entry)
        except ConfigError as error:
            problems.append(f"--search {name}={choice}: {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return {kind: entries for kind, entries in ranges.items() if entries}


def _read_range(name: str, parts: list[str]) -> tuple[str, list[str], dict[str, Any]]:
    """Return the kind of range, the values to check, and SageMaker's entry."""
    hint = TYPES[name]
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
