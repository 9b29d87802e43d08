"""`submit.py deploy` and `submit.py remove`: an endpoint, which costs until it is removed."""

from dataclasses import dataclass

from jobs.aws import Aws
from jobs.common import Connection, JobName, SecureJobLocation, SubmitOptions, unique_name
from jobs.expiry import ExpiryOptions, make_expiring, remove_schedule
from jobs.instances import describe_instances, has_gpu, volume_key, waste
from jobs.plan import Plan, submit_job
from jobs.request_parts import VARIANT, Call, create_model, given, tags
from jobs.scaling import AsyncOptions, make_async, remove_scaling
from jobs.served_model import ServedModelOptions, served_model
from jobs.serverless import ServerlessOptions, make_serverless, serverless_conflicts
from runtime.arguments import option
from runtime.errors import ConfigError, JobError
from sagemaker_limits import STARTUP_SECONDS


@dataclass(frozen=True, kw_only=True)
class EndpointOptions(ServedModelOptions):
    """The endpoint: real-time on instances, if the other options do not say otherwise."""

    ami_version: str = option(
        "al2023-ami-sagemaker-inference-gpu-4-1", "AMI version of a GPU instance; sets the NVIDIA driver"
    )
    startup_seconds: int = option(
        600, "timeout for loading the model", minimum=STARTUP_SECONDS[0], maximum=STARTUP_SECONDS[1]
    )


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
        "ContainerStartupHealthCheckTimeoutInSeconds": options.startup_seconds,
        "InferenceAmiVersion": options.ami_version if has_gpu(options.instance) else None,
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
    """Delete an endpoint and everything that was created with it; raise JobError if there is nothing of that name."""
    aws = Aws(connection)
    removed = remove_schedule(aws, name.job) + remove_scaling(aws, name.job)
    removed += [noun for noun in ("Endpoint", "EndpointConfig", "Model") if _delete(aws, noun, name.job)]
    if not removed:
        raise JobError(f"no endpoint and no model is called {name.job!r} in {aws.region}")
    print(f"removed {name.job}: {', '.join(removed)}")


def _delete(aws: Aws, noun: str, name: str) -> bool:
    """Delete a resource; return False if it does not exist."""
    if aws.find("sagemaker", f"Describe{noun}", **{f"{noun}Name": name}) is None:
        return False
    aws.call("sagemaker", f"Delete{noun}", **{f"{noun}Name": name})
    return True
