"""`submit.py deploy --serverless`: an endpoint without instances, which costs by the request."""

from dataclasses import dataclass, replace

from jobs.common import SecureJobLocation
from jobs.plan import Plan
from jobs.request_parts import Call, Request
from jobs.served_model import ServedModelOptions
from runtime.arguments import option
from sagemaker_limits import SERVERLESS_CONCURRENCY, SERVERLESS_MB

_CONCURRENCY = 5  # as SageMaker's SDK


@dataclass(frozen=True, kw_only=True)
class ServerlessOptions:
    """A serverless endpoint: without instances, on CPUs, for requests of at most 4 MB."""

    serverless: int | None = option(
        None, f"its memory in MB, one of {', '.join(map(str, SERVERLESS_MB))}; it has CPUs in proportion"
    )
    max_concurrency: int | None = option(
        None,
        f"requests at a time that it takes, others are rejected; default: {_CONCURRENCY}",
        minimum=1,
        maximum=SERVERLESS_CONCURRENCY,
    )

    def problems(self) -> list[str]:
        """Return a sentence for a size that does not exist, and for an option without --serverless."""
        if self.serverless is None:
            mistaken = self.max_concurrency is not None
            return ["--max-concurrency: only a serverless endpoint has it; pass --serverless"] if mistaken else []
        if self.serverless in SERVERLESS_MB:
            return []
        sizes = ", ".join(map(str, SERVERLESS_MB))
        return [f"--serverless: {self.serverless} MB is not a size of a serverless endpoint; choose one of {sizes}"]

    @property
    def is_given(self) -> bool:
        """Return whether the endpoint is to be serverless."""
        return self.serverless is not None

    def config(self) -> Request:
        """Return the ServerlessConfig of the production variant."""
        return {"MemorySizeInMB": self.serverless, "MaxConcurrency": self.max_concurrency or _CONCURRENCY}


def serverless_conflicts(
    serverless: ServerlessOptions, options: ServedModelOptions, location: SecureJobLocation, price: float | None
) -> list[str]:
    """Return a sentence for each option that a serverless endpoint does not have."""
    if not serverless.is_given:
        return []
    problems = []
    if not options.lite:
        problems.append(
            "--serverless: the job's image is for GPUs, which a serverless endpoint does not have; pass --lite"
        )
    if options.instance_type is not None or options.instance_count > 1:
        problems.append(
            f"--serverless: {options.instance_count} x {options.instance} are instances, which a serverless endpoint "
            "does not have; leave out --instance-type and --instance-count"
        )
    if location.subnets:
        problems.append("--subnets: a serverless endpoint cannot run in a VPC; leave them out")
    if price is not None:
        problems.append("--price-per-hour: a serverless endpoint costs by the request, not by the hour; leave it out")
    return problems


def make_serverless(plan: Plan, options: ServerlessOptions) -> Plan:
    """Return the plan of an endpoint with memory instead of instances, and without network isolation."""
    config = options.config()
    return replace(
        plan,
        calls=tuple(_changed(call, config) for call in plan.calls),
        instances=f"no instances: serverless, {options.serverless} MB, {config['MaxConcurrency']} requests at a time",
        more=(*plan.more, ("network", "not isolated: serverless endpoints cannot be, so the option is not sent")),
    )


def _changed(call: Call, config: Request) -> Call:
    """Return CreateModel without EnableNetworkIsolation, CreateEndpointConfig with a ServerlessConfig."""
    request = dict(call.request)
    request.pop("EnableNetworkIsolation", None)
    if "ProductionVariants" in request:
        (variant,) = request["ProductionVariants"]
        names = {name: variant[name] for name in ("VariantName", "ModelName")}
        request["ProductionVariants"] = [names | {"ServerlessConfig": config}]
    return replace(call, request=request)
