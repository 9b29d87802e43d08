"""Endpoints and transforms of a trained model, from the account to the bytes that a container would get."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import submit
from engines.exported_model import ExportedModel
from engines.openvino_engine import OpenVinoEngine
from jobs.aws import Aws, AwsError
from model_files import load
from predictor import Predictor
from runtime.errors import JobError
from support.aws_account import IMAGE, allowed_to_submitters, archive, client, put
from support.exported import Exported
from support.serving import publish_model

S3 = "s3://my-bucket/mask-classifier"
JOB = "faces-261124-031500"
LITE = f"{IMAGE}-lite"
CPU = ("--instance-type", "ml.c5.xlarge")


@pytest.fixture
def trained(ready: Callable[..., list[str]], tmp_path: Path) -> Callable[..., list[str]]:
    """An account with the model of a training job, and with the lite image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(publish_model(tmp_path / "trained"), ".")
    put(f"{S3}/training/{JOB}/output/model.tar.gz", buffer.getvalue())
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:1"}, "layers": []}
    client("ecr").put_image(repositoryName="mask-classifier", imageManifest=json.dumps(manifest), imageTag="abc-lite")
    return ready


def keys(folder: str) -> dict[str, int]:
    """Return the objects below a folder of the job's in S3, and their sizes."""
    found = client("s3").list_objects_v2(Bucket="my-bucket", Prefix=f"mask-classifier/{folder}")
    return {entry["Key"]: entry["Size"] for entry in found.get("Contents", [])}


def unpack(uri: str, folder: Path) -> Path:
    """Unpack what a model in SageMaker's list points to, as SageMaker does; return the folder."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    data = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
def test_a_lite_endpoint_gets_a_model_that_answers_as_torch_does_and_a_transform_the_same_bytes(
    trained: Callable[..., list[str]], tmp_path: Path, calls: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    calls.clear()
    words = ("--lite", "--model", JOB, "--image", LITE, "--environment", "SERVE_TTA=flip")
    (name,) = trained("deploy", *words, "--poll-seconds", "0", "--wait")
    sagemaker = client("sagemaker")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.c5.xlarge"
    model = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]
    assert (model["Image"], model["Environment"]) == (LITE, {"SERVE_TTA": "flip"})
    folder = unpack(model["ModelDataUrl"], tmp_path / "served")
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", "model.safetensors"]

    served = ExportedModel.read(folder, "flip")
    engine = OpenVinoEngine(served.data, served.expected, 1, served.path)
    network, description = load(tmp_path / "trained")
    twin = Predictor(network, description.preparation, torch.device("cpu"), None, tta="flip")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), dtype=np.uint8)
    assert engine.probabilities(pixels) == pytest.approx(twin.probabilities(pixels), abs=1e-5)

    put(f"{S3}/eval/1.jpg", b"")
    submit.main(("transform", *words, "--data", f"{S3}/eval"), os.environ)
    shown = capsys.readouterr()
    assert "uploaded 0 files, 1 already there" in shown.err
    transform = shown.out.strip()
    assert [f"s3://my-bucket/{key}" for key in keys("lite/")] == [model["ModelDataUrl"]]
    described = sagemaker.describe_model(ModelName=transform)["PrimaryContainer"]
    assert (described["Image"], described["ModelDataUrl"]) == (LITE, model["ModelDataUrl"])
    job = sagemaker.describe_transform_job(TransformJobName=transform)
    assert job["TransformResources"] == {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1}
    assert job["Environment"] == {"SERVE_TTA": "flip"}
    assert trained("remove", name) == [f"removed {name}: Endpoint, EndpointConfig, Model"]
    assert calls <= allowed_to_submitters()


@pytest.fixture
def exporting_is_quick(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deployments take the model.onnx that is exported once for all tests."""

    def export(model: Path, *_: object) -> None:
        shutil.copy(exported.onnx, model)

    monkeypatch.setattr("jobs.lite._export", export)


@pytest.mark.usefixtures("exporting_is_quick")
def test_a_serverless_endpoint_has_memory_and_a_model_that_is_not_isolated(
    trained: Callable[..., list[str]], calls: set[str]
) -> None:
    calls.clear()
    words = ("--serverless", "3072", "--poll-seconds", "0", "--wait")
    (name,) = trained("deploy", "--lite", "--model", JOB, "--image", LITE, *words)
    sagemaker = client("sagemaker")
    (variant,) = sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert not {"InstanceType", "InitialInstanceCount"} & variant.keys()
    assert not sagemaker.describe_model(ModelName=name).get("EnableNetworkIsolation")
    assert trained("remove", name) == [f"removed {name}: Endpoint, EndpointConfig, Model"]
    assert calls <= allowed_to_submitters()


def scaling_of(name: str) -> tuple[list[str], list[str], list[str]]:
    """Return the scalable targets, scaling policies and alarms of an endpoint."""
    resource = f"endpoint/{name}/variant/all"
    autoscaling = client("application-autoscaling")
    targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
    policies = autoscaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix=name)
    return (
        [f"{target['MinCapacity']} to {target['MaxCapacity']}" for target in targets["ScalableTargets"]],
        [policy["PolicyARN"] for policy in policies["ScalingPolicies"]],
        [action for alarm in alarms["MetricAlarms"] for action in alarm["AlarmActions"]],
    )


def test_an_asynchronous_endpoint_scales_from_none_and_is_removed_with_everything(
    trained: Callable[..., list[str]], calls: set[str]
) -> None:
    calls.clear()
    words = ("--async", "--min", "0", "--max", "2", "--poll-seconds", "0")
    (name,) = trained("deploy", "--model", JOB, "--image", IMAGE, *CPU, *words)
    config = client("sagemaker").describe_endpoint_config(EndpointConfigName=name)
    assert config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == f"{S3}/async/{name}/responses"
    targets, policies, actions = scaling_of(name)
    assert targets == ["0 to 2"]
    assert len(policies) == 2
    (step,) = actions
    assert step in policies
    assert step.endswith("policyName/first-instance")
    assert trained("remove", name) == [
        f"removed {name}: Endpoint, ScalingPolicy backlog, ScalingPolicy first-instance, ScalableTarget, Alarm, "
        "EndpointConfig, Model"
    ]
    assert scaling_of(name) == ([], [], [])
    assert calls <= allowed_to_submitters()


@pytest.mark.parametrize("fails", [AwsError("no permission", "AccessDenied"), KeyboardInterrupt()])
def test_an_endpoint_whose_scaling_fails_half_way_is_named_with_its_removal(
    trained: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: BaseException,
) -> None:
    call = Aws.call

    def failing(aws: Aws, service: str, operation: str, **request: Any) -> dict[str, Any]:
        if operation == "PutMetricAlarm":
            raise fails
        return call(aws, service, operation, **request)

    monkeypatch.setattr(Aws, "call", failing)
    words = ("--async", "--min", "0", "--poll-seconds", "0")
    with pytest.raises(type(fails)) as caught:
        trained("deploy", "--model", JOB, "--image", IMAGE, *CPU, *words)
    shown = capsys.readouterr()
    name = shown.out.strip()
    said = str(caught.value) if isinstance(fails, AwsError) else shown.err
    assert (
        f"the endpoint {name} runs without scaling, which costs: `submit.py remove {name}` removes everything" in said
    )
    if isinstance(fails, AwsError):
        assert f"RegisterScalableTarget endpoint/{name}/variant/all was rolled back" in said
        assert scaling_of(name) == ([], [], [])
    (removed,) = trained("remove", name)
    assert removed.startswith(f"removed {name}: Endpoint, ")
    assert removed.endswith("EndpointConfig, Model")
    assert scaling_of(name) == ([], [], [])


def test_an_endpoint_expires_by_a_schedule_that_is_removed_with_it(
    trained: Callable[..., list[str]], calls: set[str]
) -> None:
    trained("setup", "--expiry")
    role = client("iam").get_role(RoleName="mask-classifier-sagemaker-expiry")["Role"]
    calls.clear()
    (name,) = trained("deploy", "--model", JOB, "--image", IMAGE, *CPU, "--expires", "8h")
    found = client("scheduler").get_schedule(Name=name)
    assert (found["Target"]["RoleArn"], found["ActionAfterCompletion"]) == (role["Arn"], "DELETE")
    end = datetime.fromisoformat(found["ScheduleExpression"][3:-1]).replace(tzinfo=UTC)
    assert timedelta(hours=7, minutes=50) < end - datetime.now(UTC) <= timedelta(hours=8)
    _, runs, expires = trained("status", name, "--price-per-hour", "1.5")
    assert runs == "running for 0 min on 1 x ml.c5.xlarge; costs 1.50 per hour, 0.00 so far"
    assert expires == f"a schedule deletes it at {end:%Y-%m-%d %H:%M} UTC"
    assert trained("remove", name) == [f"removed {name}: Endpoint, EndpointConfig, Model, Schedule"]
    assert client("scheduler").list_schedules()["Schedules"] == []
    assert calls <= allowed_to_submitters(expiry=True)
    assert not calls <= allowed_to_submitters()


def test_an_endpoint_that_cannot_be_removed_yet_keeps_what_ends_its_cost(
    trained: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("setup", "--expiry")
    words = ("--async", "--min", "0", "--expires", "8h", "--poll-seconds", "0")
    (name,) = trained("deploy", "--model", JOB, "--image", IMAGE, *CPU, *words)
    kept = scaling_of(name)
    call, refusals = Aws.call, ["Cannot update in-progress endpoint"]

    def failing(aws: Aws, service: str, operation: str, **request: Any) -> dict[str, Any]:
        if operation == "DeleteEndpoint" and refusals:
            raise AwsError(refusals.pop(), "ValidationException", 400)
        return call(aws, service, operation, **request)

    monkeypatch.setattr(Aws, "call", failing)
    with pytest.raises(AwsError) as caught:
        trained("remove", name)
    assert str(caught.value) == (
        f"Cannot update in-progress endpoint; nothing was removed; `submit.py remove {name}` tries again, for an "
        f"endpoint that is being created after `submit.py wait {name}`"
    )
    assert client("scheduler").get_schedule(Name=name)
    assert scaling_of(name) == kept
    (removed,) = trained("remove", name)
    assert removed.startswith(f"removed {name}: Endpoint, ScalingPolicy")
    assert removed.endswith("Alarm, EndpointConfig, Model, Schedule")


def test_an_endpoint_that_cannot_be_created_leaves_no_schedule(
    trained: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Aws.call

    def failing(aws: Aws, service: str, operation: str, **request: Any) -> dict[str, Any]:
        if operation == "CreateEndpoint":
            raise AwsError("the account's quota is used up", "ResourceLimitExceeded")
        return call(aws, service, operation, **request)

    monkeypatch.setattr(Aws, "call", failing)
    with pytest.raises(AwsError, match=r"quota is used up; CreateSchedule .* was rolled back; CreateEndpointConfig"):
        trained("deploy", "--model", JOB, "--image", IMAGE, *CPU, "--expires", "8h")
    assert client("scheduler").list_schedules()["Schedules"] == []
    assert client("sagemaker").list_models()["Models"] == []


def test_what_a_lite_deployment_lacks_is_named_and_nothing_is_created(
    trained: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("deploy", "--lite", "--model")
    with pytest.raises(JobError, match=r"not in the registry; push it with `make image-lite` and `submit.py push --l"):
        trained(*words, JOB, "--image", LITE.replace("abc", "other"))
    with pytest.raises(JobError, match=r"`submit.py status` shows whether its job has ended: .*/training/other/output"):
        trained(*words, "other", "--image", LITE)
    put(f"{S3}/training/old/output/model.tar.gz", archive(best__pth="weights"))
    with pytest.raises(
        JobError, match=f"cannot be exported for the lite image, see the message above: {S3}/training/o"
    ):
        trained(*words, "old", "--image", LITE)
    monkeypatch.setattr("jobs.lite.importlib.util.find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"for which onnx and onnxscript must be installed; run `make .venv/export`"):
        trained(*words, JOB, "--image", LITE)
    assert client("sagemaker").list_models()["Models"] == []
    assert keys("lite/") == {}
