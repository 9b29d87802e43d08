"""The options of `submit.py train`, which cross-validation and a search share."""

from dataclasses import dataclass

from jobs.checks import data_problems, name_problems, pair_problems
from jobs.manifest import is_manifest, manifest_problems
from jobs.pretrained import pretrained_problems
from runtime.arguments import option
from sagemaker_limits import INSTANCES, NAME_LENGTH, TRAINING_HOURS, VOLUME_GB, WARM_POOL_MINUTES


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The training job; hyperparameters follow after `--`, as for code/train.py."""

    name: str = option("mask-classifier", "name of the job; the time is appended")
    data: str = option(
        "", "training images: a folder, which is uploaded, s3://bucket/prefix, or a *.manifest of Ground Truth"
    )
    validation_data: str = option("", "validation images (the `validation` channel): a folder or s3://bucket/prefix")
    pretrained_data: str = option(
        "",
        "initial weights (the `pretrained` channel): a file, a folder or s3://bucket/prefix; default: cached weights",
    )
    from_: str = option("", "training job, or its s3://bucket/key/model.tar.gz, to start from; classes may differ")
    resume_from: str = option("", "training job to resume from its checkpoints, with its data and hyperparameters")
    instance_type: str = option("ml.g5.xlarge", "instance type; all of its GPUs train")
    instance_count: int = option(
        1, "number of instances that train together; --batch-size is for all of them", minimum=1, maximum=INSTANCES
    )
    volume_gb: int = option(50, "disk for data and scratch files, in GB", minimum=1, maximum=VOLUME_GB)
    max_hours: float = option(12.0, "maximum training time", above=0, maximum=TRAINING_HOURS)
    spot: bool = option(True, "spot instances: cheaper, may be interrupted, then resumed from the checkpoint")
    max_wait_hours: float | None = option(
        None, "spot: maximum time, waiting included; default: twice --max-hours", above=0, maximum=TRAINING_HOURS
    )
    warm_pool_minutes: int = option(
        0, "time that the instance is kept for the next job", minimum=0, maximum=WARM_POOL_MINUTES
    )
    input_mode: str = option(
        "File", "File copies the data first, FastFile reads it while training", choices=("File", "FastFile")
    )
    environment: str = option("", "name=value,... set in the container")

    def problems(self) -> list[str]:
        """Return a sentence for each missing option and for each that does not fit another one."""
        problems = name_problems(self.name) + data_problems("data", self.data)
        problems += manifest_problems(self.data, self.input_mode)
        if is_manifest(self.validation_data):
            problems.append(
                "--validation-data: a manifest is for --data only, expected a folder with images and the manifest: "
                f"{self.validation_data}"
            )
        elif self.validation_data:
            problems += data_problems("validation-data", self.validation_data)
        problems += pretrained_problems(self.pretrained_data, self.from_)
        if self.resume_from:
            problems += name_problems(self.resume_from, flag="resume-from", most=NAME_LENGTH)
        if self.spot and self.warm_pool_minutes:
            problems.append("--warm-pool-minutes: spot instances have no warm pool; add --spot false or leave it out")
        if self.spot and self.wait_hours < self.max_hours:
            problems.append(f"--max-wait-hours: {self.wait_hours:g} is less than --max-hours {self.max_hours:g}")
        if not self.spot and self.max_wait_hours is not None:
            problems.append("--max-wait-hours: only spot jobs wait; add --spot true or leave it out")
        return problems + pair_problems("environment", self.environment)

    @property
    def wait_hours(self) -> float:
        """Return the maximum time of a spot job, waiting included; at most 28 days."""
        return min(2 * self.max_hours, float(TRAINING_HOURS)) if self.max_wait_hours is None else self.max_wait_hours

    @property
    def billed_hours(self) -> float:
        """Return the maximum time that is paid for, of all instances together."""
        return self.instance_count * (self.max_hours + self.warm_pool_minutes / 60)

    @property
    def longest(self) -> str:
        waiting = f", at most {self.wait_hours:g} h with waiting" if self.spot else ""
        return f"{self.max_hours:g} h of training{waiting}"
