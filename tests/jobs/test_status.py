"""What runs tells since when, on what and at what price; what has ended costs nothing any more and tells nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.common import Connection, JobName
from jobs.job import find
from jobs.status import StatusOptions, running_lines, status_command
from support.fake_aws import DONE, FakeAws, folds_of, training

START = datetime(2026, 11, 27, tzinfo=UTC)
RUNS = training("InProgress", ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 2})


def lines(aws: FakeAws, price: float | None = None, **age: float) -> list[str]:
    return running_lines(aws, find(aws, "faces"), START + timedelta(**(age or {"hours": 3.5})), price)


def endpoint(variant: dict[str, Any], count: int | None = None, queue: Any = None, **responses: Any) -> FakeAws:
    """Return an AWS with an endpoint in service since START; with a `queue`, it is asynchronous."""
    now = {} if count is None else {"ProductionVariants": [{"CurrentInstanceCount": count}]}
    facts = {"EndpointStatus": "InService", "EndpointConfigName": "faces", "CreationTime": START} | now
    config = {"ProductionVariants": [variant]} | ({"AsyncInferenceConfig": queue} if queue else {})
    return FakeAws(DescribeEndpoint=facts, DescribeEndpointConfig=config, **responses)


ON_CPU = {"InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 2}


def test_a_job_tells_its_age_its_instances_and_its_price() -> None:
    aws = FakeAws(DescribeTrainingJob=RUNS | {"CreationTime": START, "TrainingStartTime": START})
    assert lines(aws, 1.5) == ["running for 3 h 30 min on 2 x ml.g5.xlarge; costs 3.00 per hour, 10.50 so far"]
    spot = FakeAws(DescribeTrainingJob=RUNS | {"CreationTime": START, "EnableManagedSpotTraining": True})
    assert lines(spot, 1.5) == ["running for 3 h 30 min on 2 x ml.g5.xlarge; costs 3.00 per hour, at most 10.50 so far"]


def test_without_a_price_the_option_is_named() -> None:
    assert lines(endpoint(ON_CPU)) == [
        "running for 3 h 30 min on 2 x ml.c5.xlarge; pass --price-per-hour to see what it costs"
    ]


@pytest.mark.parametrize(
    ("kind", "resources"),
    [
        ("TransformJob", {"TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1}}),
        (
            "ProcessingJob",
            {"ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1}}},
        ),
    ],
)
def test_every_kind_of_job_tells_its_instances(kind: str, resources: dict[str, Any]) -> None:
    aws = FakeAws(**{f"Describe{kind}": {f"{kind}Status": "InProgress", "CreationTime": START} | resources})
    assert lines(aws, 1.0) == ["running for 3 h 30 min on 1 x ml.c5.xlarge; costs 1.00 per hour, 3.50 so far"]


def test_a_search_tells_its_age_alone() -> None:
    facts = {"HyperParameterTuningJobStatus": "InProgress", "CreationTime": START}
    assert lines(FakeAws(DescribeHyperParameterTuningJob=facts), 1.0) == ["running for 3 h 30 min"]


@pytest.mark.parametrize(
    ("age", "expected"),
    [({"minutes": 12}, "12 min"), ({"hours": 23.5}, "23 h 30 min"), ({"days": 2, "hours": 3}, "2 d 3 h")],
)
def test_an_age_is_short(age: dict[str, float], expected: str) -> None:
    (line,) = lines(endpoint(ON_CPU), **age)
    assert line.startswith(f"running for {expected} on")


@pytest.mark.parametrize(("count", "price"), [(0, "0.00"), (3, "4.50")])
def test_an_asynchronous_endpoint_costs_what_it_has_now(count: int, price: str) -> None:
    aws = endpoint(ON_CPU, count, queue={"OutputConfig": {}})
    assert lines(aws, 1.5) == [
        f"running for 3 h 30 min on {count} x ml.c5.xlarge; costs {price} per hour with as many instances as now"
    ]


def test_a_serverless_endpoint_costs_by_the_request() -> None:
    aws = endpoint({"ServerlessConfig": {"MemorySizeInMB": 2048}})
    assert lines(aws, 1.5) == ["running for 3 h 30 min, serverless; costs by the request"]


def test_an_endpoint_that_expires_says_when() -> None:
    aws = endpoint(ON_CPU, GetSchedule={"ScheduleExpression": "at(2026-11-27T08:30:00)"})
    assert lines(aws)[1:] == ["a schedule deletes it at 2026-11-27 08:30 UTC"]


def test_what_has_ended_tells_nothing() -> None:
    assert lines(FakeAws(DescribeTrainingJob=DONE | {"CreationTime": START}), 1.0) == []


def test_the_state_of_each_fold_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failed = training("Failed", "Failed", FailureReason="spot is lost")
    aws = folds_of("faces", {"faces-fold-1": [RUNS], "faces-fold-2": [failed]})
    monkeypatch.setattr("jobs.status.Aws", lambda connection: aws)
    status_command(Connection(), JobName(job="faces"), StatusOptions())
    assert capsys.readouterr().out.splitlines() == [
        "training job 'faces-fold-1'  InProgress  Training",
        "training job 'faces-fold-2'  Failed  Failed",
        "spot is lost",
    ]
