"""`submit.py status`: the state of a job or an endpoint; while it runs, since when, on what, and at what price."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobs.aws import Aws
from jobs.common import HIGHEST_PRICE, Connection, JobName
from jobs.expiry import find_end
from jobs.instances import describe_instances
from jobs.job import Job, find_all
from runtime.arguments import option

_INSTANCES = {  # where a description of a job names them
    "TrainingJob": ("ResourceConfig",),
    "TransformJob": ("TransformResources",),
    "ProcessingJob": ("ProcessingResources", "ClusterConfig"),
}
_STARTS = ("TrainingStartTime", "TransformStartTime", "ProcessingStartTime", "CreationTime")  # the first that is there


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """The cost."""

    price_per_hour: float | None = option(
        None, "price of an instance hour, to print the cost so far", minimum=0, maximum=HIGHEST_PRICE
    )


@dataclass(frozen=True)
class Instances:
    """What a job or an endpoint runs on; `is_constant` is whether there were as many since its start."""

    type: str
    count: int
    is_constant: bool = True


def status_command(connection: Connection, name: JobName, options: StatusOptions) -> None:
    """Print the state of a job, or of each fold of a cross-validation, and its FailureReason; then what it costs."""
    aws = Aws(connection)
    for job in find_all(aws, name.job):
        print(f"{job.title}  {job.line()}")
        if reason := job.facts.get("FailureReason"):
            print(reason)
        for line in running_lines(aws, job, datetime.now(UTC), options.price_per_hour):
            print(line)


def running_lines(aws: Aws, job: Job, now: datetime, price: float | None) -> list[str]:
    """Return the age of a job that runs, its instances and its price, and when an endpoint will be deleted."""
    is_endpoint = job.kind.noun == "Endpoint"
    if job.is_over and not is_endpoint:
        return []
    start = next((job.facts[name] for name in _STARTS if job.facts.get(name)), None)
    if start is None:
        return []
    hours = (now - start).total_seconds() / 3600
    config = _endpoint_config(aws, job) if is_endpoint else {}
    if "ServerlessConfig" in _variant(config):
        lines = [f"running for {_duration(hours)}, serverless; costs by the request"]
    elif instances := _endpoint_instances(job, config) if is_endpoint else _job_instances(job):
        on = describe_instances(instances.type, instances.count)
        lines = [f"running for {_duration(hours)} on {on}; {_cost(job, instances, hours, price)}"]
    else:
        lines = [f"running for {_duration(hours)}"]
    if is_endpoint and (end := find_end(aws, job.name)):
        lines.append(f"a schedule deletes it at {end:%Y-%m-%d %H:%M} UTC")
    return lines


def _endpoint_config(aws: Aws, job: Job) -> dict[str, Any]:
    name = job.facts["EndpointConfigName"]
    return aws.find("sagemaker", "DescribeEndpointConfig", EndpointConfigName=name) or {}


def _variant(config: dict[str, Any]) -> dict[str, Any]:
    variants: list[dict[str, Any]] = config.get("ProductionVariants") or [{}]
    return variants[0]


def _endpoint_instances(job: Job, config: dict[str, Any]) -> Instances | None:
    """Return the instances that an endpoint has now; an asynchronous one may have had others."""
    variant = _variant(config)
    if "InstanceType" not in variant:
        return None
    now = (job.facts.get("ProductionVariants") or [{}])[0].get("CurrentInstanceCount")
    count = variant["InitialInstanceCount"] if now is None else now
    return Instances(variant["InstanceType"], count, is_constant=not config.get("AsyncInferenceConfig"))


def _job_instances(job: Job) -> Instances | None:
    """Return the instances of a job, None for a search, whose trials have their own."""
    facts: Any = job.facts
    for name in _INSTANCES.get(job.kind.noun, ()):
        facts = facts.get(name, {})
    if not facts or "InstanceType" not in facts:
        return None
    return Instances(facts["InstanceType"], facts.get("InstanceCount", 1))


def _cost(job: Job, instances: Instances, hours: float, price: float | None) -> str:
    if price is None:
        return "pass --price-per-hour to see what it costs"
    rate = f"costs {price * instances.count:,.2f} per hour"
    if not instances.is_constant:
        return f"{rate} with as many instances as now"
    most = "at most " if job.facts.get("EnableManagedSpotTraining") else ""
    return f"{rate}, {most}{price * instances.count * hours:,.2f} so far"


def _duration(hours: float) -> str:
    """Return `2 d 3 h`, `3 h 12 min` or `12 min`."""
    minutes = max(0, round(hours * 60))
    if minutes >= 24 * 60:
        return f"{minutes // 1440} d {minutes % 1440 // 60} h"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
