"""A serverless endpoint: no instances, no network isolation, and nothing that it does not have is asked of it."""

import pytest

from jobs.serverless import ServerlessOptions
from runtime.arguments import parse
from runtime.errors import ConfigError
from support.job_requests import DryRunCommand

LITE = ("--model", "faces-1", "--lite")


def test_memory_takes_the_place_of_instances_and_isolation_is_not_sent_which_is_said(dry_run: DryRunCommand) -> None:
    requests, printed = dry_run("deploy", *LITE, "--serverless", "2048", "--max-concurrency", "7")
    (variant,) = requests["CreateEndpointConfig"]["ProductionVariants"]
    name = requests["CreateModel"]["ModelName"]
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": 7}
    assert variant == {"VariantName": "all", "ModelName": name, "ServerlessConfig": config}
    assert "EnableNetworkIsolation" not in requests["CreateModel"]
    assert "network  not isolated: serverless endpoints cannot be, so the option is not sent" in printed
    assert "runs on  no instances: serverless, 2048 MB, 7 requests at a time" in printed


def test_an_endpoint_on_instances_stays_isolated(dry_run: DryRunCommand) -> None:
    requests, printed = dry_run("deploy", *LITE)
    assert requests["CreateModel"]["EnableNetworkIsolation"] is True
    assert "network" not in printed


@pytest.mark.parametrize("size", ["512", "1000", "8192"])
def test_only_sizes_that_exist_are_accepted(size: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{size} MB is not a size of a serverless endpoint; choose one of 1024, 2048"
    ):
        parse("submit.py", ("--serverless", size), {}, ServerlessOptions)


def test_a_number_of_requests_needs_a_serverless_endpoint() -> None:
    with pytest.raises(ConfigError, match="--max-concurrency: only a serverless endpoint has it; pass --serverless"):
        parse("submit.py", ("--max-concurrency", "5"), {}, ServerlessOptions)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "faces-1"), "the job's image is for GPUs, which a serverless endpoint does not have; pass --lite"),
        ((*LITE, "--instance-type", "ml.m5.large"), "1 x ml.m5.large are instances, which a serverless endpoint does"),
        ((*LITE, "--instance-type", "ml.g5.xlarge"), "ml.g5.xlarge has an accelerator, and the lite image computes on"),
        ((*LITE, "--instance-count", "2"), "2 x ml.c5.xlarge are instances"),
        ((*LITE, "--subnets", "subnet-1", "--security-groups", "sg-1"), "a serverless endpoint cannot run in a VPC"),
        ((*LITE, "--startup-seconds", "900"), "--startup-seconds: a serverless endpoint has no such timeout"),
        ((*LITE, "--price-per-hour", "1"), "a serverless endpoint costs by the request, not by the hour"),
    ],
)
def test_what_a_serverless_endpoint_does_not_have_is_refused_by_name(
    dry_run: DryRunCommand, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        dry_run("deploy", *words, "--serverless", "2048")
    assert sentence in str(caught.value)
