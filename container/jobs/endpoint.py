"""`submit.py deploy` and `submit.py remove`: an endpoint, which costs until it is removed."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.aws import Aws, AwsError
from jobs.common import Connection, JobName, SecureJobLocation, SubmitOptions, unique_name
from jobs.expiry import ExpiryOptions, make_expiring, remove_schedule
from jobs.instances import describe_instances, encryption, volume_key, waste
from jobs.plan import Plan, submit_job
from jobs.request_parts import VARIANT, Call, create_model, given, tags
from jobs.scaling import AsyncOptions, make_async, remove_scaling
from jobs.served_model import ServedModelOptions, served_model
from jobs.serverless import ServerlessOptions, make_serverless, serverless_conflicts
from runtime.arguments import option
from runtime.errors import ConfigError, JobError
from sagemaker_limits import STARTUP_SECONDS

_DEFAULT_STARTUP_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class EndpointOptions(ServedModelOptions):
    """The endpoint: real-time on instances, if the other options do not say otherwise."""

    startup_seconds: int | None = option(
        None,
        f"timeout for loading the model; default: {_DEFAULT_STARTUP_SECONDS}",
        minimum=STARTUP_SECONDS[0],
        maximum=STARTUP_SECONDS[1],
    )

    default_ami = "al2023-ami-sagemaker-inference-gpu-4-1"


def deploy(
    connection: Connection,
    location: SecureJobLocation,
    submit: SubmitOptions,
    options: EndpointOptions,
    serverless: ServerlessOptions,
    queue: AsyncOptions,
    expiry: ExpiryOptions,
) -> None:
    """Create an endpoint, its configuration and its model, all under one name; raise ConfigError for a conflict."""
    problems = serverless_conflicts(serverless, options, location, submit.price_per_hour)
    if serverless.is_given and options.startup_seconds is not None:
        problems.append("--startup-seconds: a serverless endpoint has no such timeout; leave it out")
    problems += queue.conflicts(options.instance_count, serverless=serverless.is_given)
    if problems:
        raise ConfigError("; ".join(problems))
    aws, job = Aws(connection), unique_name(options.name)
    with served_model(aws, location, options, dry_run=submit.dry_run) as (image, archive):
        model = create_model(job, location, image, archive.uri, options.environment)
        plan = Plan(
            job=job,
            location=location,
            image=image,
            calls=(model, *endpoint(job, location, options)),
            uploads=archive.uploads,
            kms_key=location.kms_key,
            encryption=encryption(options.instance, location.kms_key),
            needed_uris=archive.needed_uris,
            instances=describe_instances(options.instance, options.instance_count),
            waste=waste(options.instance),
            longest=f"until it is removed: `submit.py remove {job}`",
        )
        if serverless.is_given:
            plan = make_serverless(plan, serverless)
        if queue.async_:
            plan = make_async(plan, location, queue, options.instance_count, aws.region)
        if expiry.expires:
            most = queue.most(options.instance_count)
            plan = make_expiring(plan, location, expiry, most, aws.region)
        submit_job(aws, plan, submit)


def endpoint(job: str, location: SecureJobLocation, options: EndpointOptions) -> list[Call]:
    """Return CreateEndpointConfig and CreateEndpoint for the model of the same name."""
    variant = {
        "VariantName": VARIANT,
        "ModelName": job,
        "InstanceType": options.instance,
        "InitialInstanceCount": options.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": options.startup_seconds or _DEFAULT_STARTUP_SECONDS,
        "InferenceAmiVersion": options.ami,
    }
    config = {
        "EndpointConfigName": job,
        "ProductionVariants": [given(variant)],
        "KmsKeyId": volume_key(options.instance, location.kms_key),
        "Tags": tags(location),
    }
    request = {"EndpointName": job, "EndpointConfigName": job, "Tags": tags(location)}
    return [
        Call("CreateEndpointConfig", given(config), ("DeleteEndpointConfig", {"EndpointConfigName": job})),
        Call("CreateEndpoint", given(request), ("DeleteEndpoint", {"EndpointName": job})),
    ]


def remove(connection: Connection, name: JobName) -> None:
    """Delete an endpoint and everything that was created with it; raise JobError if there is nothing of that name.

    The endpoint, which costs, is deleted first, and the schedule that would delete it last: where the endpoint cannot
    be deleted now, it still expires. A schedule whose endpoint is gone fails, and deletes itself.
    """
    aws, job = Aws(connection), name.job
    steps: tuple[Callable[[], list[str]], ...] = (
        lambda: _delete(aws, "Endpoint", job),
        lambda: remove_scaling(aws, job),
        lambda: _delete(aws, "EndpointConfig", job),
        lambda: _delete(aws, "Model", job),
        lambda: remove_schedule(aws, job),
    )
    removed: list[str] = []
    for step in steps:
        try:
            removed += step()
        except AwsError as error:
            raise AwsError(f"{error}; {_remains(job, removed, error)}", error.code, error.status) from error
    if not removed:
        raise JobError(f"no endpoint and no model is called {job!r} in {aws.region}")
    print(f"removed {job}: {', '.join(removed)}")


def _delete(aws: Aws, noun: str, name: str) -> list[str]:
    """Delete a resource unless that is already under way; return what was there."""
    described = aws.find("sagemaker", f"Describe{noun}", **{f"{noun}Name": name})
    if described is None:
        return []
    if described.get(f"{noun}Status") != "Deleting":
        aws.find("sagemaker", f"Delete{noun}", **{f"{noun}Name": name})  # a schedule may be faster
    return [noun]


def _remains(job: str, removed: list[str], error: AwsError) -> str:
    """Return what was removed before an error, and how to go on."""
    if removed:
        return f"removed so far: {', '.join(removed)}; `submit.py remove {job}` removes the rest"
    what = "the endpoint may have been removed, and nothing else" if error.maybe_done else "nothing was removed"
    again = f"`submit.py remove {job}` tries again, for an endpoint that is being created after `submit.py wait {job}`"
    return f"{what}; {again}"
