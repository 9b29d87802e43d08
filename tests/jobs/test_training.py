"""Requests of training, tuning and processing jobs: AWS's own description accepts each of them, in every variant."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.common import JobPlace
from jobs.instances import Call
from jobs.job_options import Evaluation, Training, Tuning
from jobs.limits import check_request
from jobs.training import processing_job, training_job, tuning_job
from metrics import metric_definitions

PLACE = JobPlace(role="arn:aws:iam::123456789012:role/sagemaker", bucket="my-bucket")
GUARDED = replace(
    PLACE, kms_key="arn:aws:kms:eu-west-1:123456789012:key/abc", subnets="subnet-1,subnet-2", security_groups="sg-1"
)
TRAINING = Training(data="s3://my-bucket/faces/")
RANGES = {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.1", "MaxValue": "1", "ScalingType": "Auto"}]}


def train(place: JobPlace = PLACE, options: Training = TRAINING, **hyperparameters: str) -> dict[str, Any]:
    channels = {"train": "s3://my-bucket/faces/"}
    call = training_job("faces-1", place, options, "image:tag", channels=channels, hyperparameters=hyperparameters)
    return checked(call).request


def tune(
    place: JobPlace = PLACE, training: Training = TRAINING, tuning: Tuning | None = None, **hyperparameters: str
) -> dict[str, Any]:
    options, channels = (training, tuning or Tuning(search="lr=0.1:1")), {"train": "s3://my-bucket/faces/"}
    call = tuning_job(
        "t-1", place, options, "image:tag", channels=channels, hyperparameters=hyperparameters, ranges=RANGES
    )
    return checked(call).request


def evaluate(place: JobPlace = PLACE, arguments: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    inputs = {"predictions": "s3://my-bucket/p/", "ground_truth": "s3://my-bucket/g/"}
    call = processing_job("e-1", place, Evaluation(**options), "image:tag", inputs=inputs, arguments=arguments)
    return checked(call).request


def checked(call: Call) -> Call:
    """The call, whose request and whose way back AWS would take."""
    check_request("sagemaker", call.operation, call.request)
    if call.undo:
        check_request("sagemaker", *call.undo)
    return call


@pytest.mark.parametrize("place", [PLACE, GUARDED, replace(PLACE, network_isolation=False, tags="team=vision,a=1")])
@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(place: JobPlace, spot: bool, instance_type: str) -> None:
    options = replace(TRAINING, spot=spot, instance_type=instance_type, input_mode="FastFile", environment="A=1,B=")
    train(place, options, epochs="3")
    tune(place, options)
    evaluate(place, ("--bootstrap", "100"), instance_type=instance_type)


def test_a_spot_job_has_checkpoints_and_time_to_wait() -> None:
    request = train()
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 12 * 3600, "MaxWaitTimeInSeconds": 24 * 3600}
    assert request["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


def test_a_job_on_demand_does_not_wait_but_has_checkpoints_too() -> None:
    request = train(options=replace(TRAINING, spot=False, warm_pool_minutes=30))
    assert "MaxWaitTimeInSeconds" not in request["StoppingCondition"]
    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 1800
    assert request["CheckpointConfig"] == train()["CheckpointConfig"]


def test_checkpoints_belong_to_the_job_or_to_the_one_it_goes_on_from() -> None:
    own, other = train(), train(options=replace(TRAINING, resume_from="faces-0"))
    assert own["CheckpointConfig"]["S3Uri"] == "s3://my-bucket/mask-classifier/checkpoints/faces-1/"
    assert other["CheckpointConfig"]["S3Uri"] == "s3://my-bucket/mask-classifier/checkpoints/faces-0/"


def test_the_container_has_no_network_unless_it_is_asked_for() -> None:
    assert train()["EnableNetworkIsolation"] is True
    assert tune()["TrainingJobDefinition"]["EnableNetworkIsolation"] is True
    assert evaluate()["NetworkConfig"]["EnableNetworkIsolation"] is True
    assert train(replace(PLACE, network_isolation=False))["EnableNetworkIsolation"] is False


def test_the_profiler_costs_nothing() -> None:
    assert train()["ProfilerConfig"] == {"DisableProfiler": True}


def test_metrics_are_those_that_training_logs_and_the_objective_is_one_of_them() -> None:
    definitions = train()["AlgorithmSpecification"]["MetricDefinitions"]
    assert definitions == metric_definitions()
    assert tune()["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"] == definitions
    objective = tune()["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    assert objective["MetricName"] in [definition["Name"] for definition in definitions]


def test_trials_of_a_search_share_no_checkpoint() -> None:
    assert "CheckpointConfig" not in tune()["TrainingJobDefinition"]


def test_early_stopping_can_be_switched_off() -> None:
    for early_stopping, word in ((True, "Auto"), (False, "Off")):
        config = tune(tuning=Tuning(search="lr=0.1:1", early_stopping=early_stopping))["HyperParameterTuningJobConfig"]
        assert config["TrainingJobEarlyStoppingType"] == word


def test_hyperband_is_told_the_most_epochs_and_stops_jobs_by_itself() -> None:
    tuning = Tuning(search="lr=0.1:1", strategy="Hyperband")
    config = tune(tuning=tuning)["HyperParameterTuningJobConfig"]
    assert config["TrainingJobEarlyStoppingType"] == "Off"  # SageMaker refuses Auto
    assert config["StrategyConfig"] == {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 1}}
    config = tune(tuning=tuning, epochs="30")["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"]["HyperbandStrategyConfig"]["MaxResource"] == 30
    assert "StrategyConfig" not in tune()["HyperParameterTuningJobConfig"]


def test_results_are_encrypted_and_volumes_where_the_machine_does_not_do_it_itself() -> None:
    key = GUARDED.kms_key
    on_gpu, on_cpu = train(GUARDED), train(GUARDED, replace(TRAINING, instance_type="ml.m5.large"))
    assert on_gpu["OutputDataConfig"]["KmsKeyId"] == key
    assert "VolumeKmsKeyId" not in on_gpu["ResourceConfig"]  # g5 has a disk of its own: SageMaker would refuse
    assert on_cpu["ResourceConfig"]["VolumeKmsKeyId"] == key
    assert evaluate(GUARDED)["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == key
    assert evaluate(GUARDED)["ProcessingOutputConfig"]["KmsKeyId"] == key


def test_a_vpc_and_tags_go_with_every_job() -> None:
    place = replace(GUARDED, tags="team=vision")
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
    assert train(place)["VpcConfig"] == tune(place)["TrainingJobDefinition"]["VpcConfig"] == vpc
    assert evaluate(place)["NetworkConfig"]["VpcConfig"] == vpc
    for request in (train(place), tune(place), evaluate(place)):
        assert request["Tags"] == [{"Key": "team", "Value": "vision"}]


def test_evaluation_reads_and_writes_where_the_container_looks() -> None:
    request = evaluate(arguments=("--bootstrap", "0"))
    paths = {entry["InputName"]: entry["S3Input"]["LocalPath"] for entry in request["ProcessingInputs"]}
    assert paths == {name: f"/opt/ml/processing/{name}" for name in ("predictions", "ground_truth")}
    (output,) = request["ProcessingOutputConfig"]["Outputs"]
    assert output["S3Output"]["LocalPath"] == "/opt/ml/processing/evaluation"
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["evaluate"]
    assert request["AppSpecification"]["ContainerArguments"] == ["--bootstrap", "0"]
    assert "ContainerArguments" not in evaluate()["AppSpecification"]
