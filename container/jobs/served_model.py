"""The model that an endpoint or a batch transform serves: its options, its image and its archive."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from jobs.aws import Aws
from jobs.checks import model_problems, name_problems, pair_problems, pairs
from jobs.common import JobLocation
from jobs.ecr import job_image
from jobs.instances import has_arm, has_gpu
from jobs.lite import ServedArchive, lite_archive, lite_problems
from jobs.plan import check_image
from runtime.arguments import option, parse
from runtime.errors import ConfigError
from sagemaker_limits import INSTANCES
from server.settings import ServeConfig, unknown_settings

GPU_INSTANCE, CPU_INSTANCE = "ml.g5.xlarge", "ml.c5.xlarge"


@dataclass(frozen=True, kw_only=True)
class ServedModelOptions:
    """The model, and the instances that serve it."""

    name: str = option("mask-classifier", "name; the time is appended")
    model: str = option("", "model: a training job, or s3://bucket/key/model.tar.gz")
    lite: bool = option(False, "serve on CPUs with the lite image; exports the model to ONNX first, on this machine")
    instance_type: str | None = option(None, f"instance type; default: {GPU_INSTANCE}, with --lite {CPU_INSTANCE}")
    instance_count: int = option(1, "number of instances", minimum=1, maximum=INSTANCES)
    ami_version: str | None = option(
        None, "AMI version of a GPU instance; sets the NVIDIA driver; default: one for CUDA 12"
    )
    environment: str = option("", "name=value,... set in the container")

    default_ami: ClassVar[str]  # of GPU instances, whose default driver may be too old for CUDA 12

    def problems(self) -> list[str]:
        """Return a sentence for each missing option and for each that does not fit another one."""
        problems = name_problems(self.name) + model_problems(self.model)
        problems += lite_problems(self.instance) if self.lite else []
        if self.ami_version is not None and not has_gpu(self.instance):
            problems.append(f"--ami-version: {self.instance} has no GPU, whose driver it would set; leave it out")
        return problems + pair_problems("environment", self.environment) + setting_problems(self.environment)

    @property
    def instance(self) -> str:
        """Return the instance type."""
        return self.instance_type or (CPU_INSTANCE if self.lite else GPU_INSTANCE)

    @property
    def ami(self) -> str | None:
        """Return the AMI version of a GPU instance, None for any other."""
        return (self.ami_version or self.default_ami) if has_gpu(self.instance) else None


def setting_problems(environment: str) -> list[str]:
    """Return a sentence for settings that the server would reject or ignore, minutes after it was paid for."""
    given = pairs(environment)
    problems = unknown_settings(given)
    try:
        parse("serve.py", [], given, ServeConfig)
    except ConfigError as error:
        problems.append(str(error))
    return [f"--environment: {problem}" for problem in problems]


@contextlib.contextmanager
def served_model(
    aws: Aws, location: JobLocation, options: ServedModelOptions, *, dry_run: bool
) -> Iterator[tuple[str, ServedArchive]]:
    """Yield the image and the archive of the model; files to upload exist within the `with` block.

    Raises ConfigError for an instance on which the image of the job cannot run.
    """
    if has_arm(options.instance) and not (options.lite or location.image):
        raise ConfigError(
            f"--instance-type: {options.instance} has ARM processors, and the job's image is for x86-64; choose a type "
            "such as ml.c5.xlarge, or --lite with an image that was built on ARM"
        )
    image = job_image(aws, location, lite=options.lite)
    if not options.lite:
        uri = location.model(options.model)
        yield image, ServedArchive(uri, needed_uris=(uri,))
        return
    if not dry_run:
        check_image(aws, image, location.account)  # before a minute of work
    tta = pairs(options.environment).get("SERVE_TTA", "none")
    with lite_archive(aws, location, options.model, tta=tta, dry_run=dry_run) as archive:
        yield image, archive
