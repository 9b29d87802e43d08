"""Requests beyond the limits of the service are rejected with a sentence before anything is sent."""

from typing import Any

import pytest

import sagemaker_limits
from jobs.limits import check_request, service_model
from runtime.errors import ConfigError


def training(**changes: Any) -> dict[str, Any]:
    """Return a training job that AWS accepts, with changes."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/"}}
    request = {
        "TrainingJobName": "faces-261124-031500",
        "RoleArn": "arn:aws:iam::123456789012:role/sagemaker",
        "AlgorithmSpecification": {"TrainingImage": "image:tag", "TrainingInputMode": "File"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/training"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    return request | changes


def rejection(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_request("sagemaker", "CreateTrainingJob", training(**changes))
    return str(caught.value)


def test_a_request_that_aws_accepts_is_accepted() -> None:
    check_request("sagemaker", "CreateTrainingJob", training(HyperParameters={"epochs": "3"}))


def test_values_at_the_limit_are_accepted() -> None:
    values = {"k" * 256: "v" * 2500} | {f"name{index}": "" for index in range(99)}
    check_request("sagemaker", "CreateTrainingJob", training(TrainingJobName="a" * 63, HyperParameters=values))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"TrainingJobName": "a" * 64}, "TrainingJobName has 64 characters, at most 63 are allowed"),
        ({"TrainingJobName": "masked_faces"}, "TrainingJobName does not match"),
        ({"HyperParameters": {f"n{i}": "1" for i in range(101)}}, "HyperParameters has 101 entries, at most 100"),
        ({"HyperParameters": {"n" * 257: "1"}}, "in HyperParameters has 257 characters, at most 256"),
        ({"HyperParameters": {"note": "v" * 2501}}, "HyperParameters['note'] has 2501 characters, at most 2500"),
        ({"HyperParameters": {"note": "two\nlines"}}, "HyperParameters['note'] contains a line break: 'two\\nlines'"),
        ({"InputDataConfig": training()["InputDataConfig"] * 21}, "InputDataConfig has 21 entries, at most 20"),
        ({"RoleArn": "role/of/no/account/at/all"}, "RoleArn does not match arn:aws"),
        ({"StoppingCondition": {"MaxPendingTimeInSeconds": 9**9}}, "MaxPendingTimeInSeconds is 387420489, at most"),
        ({"Tags": [{"Key": "k" * 129, "Value": ""}]}, "Tags[0].Key has 129 characters, at most 128"),
        ({"Tags": [{"Key": "what?", "Value": ""}]}, "Tags[0].Key does not match"),
        ({"Environment": {"A": "v" * 513}}, "Environment['A'] has 513 characters, at most 512"),
        ({"OutputDataConfig": {}}, "Missing required parameter in OutputDataConfig"),
        ({"HyperParameters": {"epochs": 3}}, "Invalid type for parameter HyperParameters.epochs"),
    ],
)
def test_a_value_outside_the_contract_is_rejected(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in rejection(**changes)


def test_a_mistyped_instance_type_gets_the_nearest_name() -> None:
    resources = {"InstanceType": "g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    assert "unknown ResourceConfig.InstanceType 'g5.xlarge' (did you mean 'ml.g5.xlarge'?)" in rejection(
        ResourceConfig=resources
    )


def test_every_mistake_of_a_request_is_named_at_once() -> None:
    sentence = rejection(TrainingJobName="a" * 64, RoleArn="nobody, and long enough")
    assert "TrainingJobName" in sentence
    assert "RoleArn" in sentence


def test_a_transform_takes_at_most_16_variables() -> None:
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/"}}}
    request = {
        "TransformJobName": "faces",
        "ModelName": "faces",
        "TransformInput": source,
        "TransformOutput": {"S3OutputPath": "s3://bucket/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "Environment": {f"V{index}": "1" for index in range(17)},
    }
    with pytest.raises(ConfigError, match="Environment has 17 entries, at most 16"):
        check_request("sagemaker", "CreateTransformJob", request)


def test_the_constants_agree_with_botocore() -> None:
    def most(shape: str) -> int:
        return int(service_model("sagemaker").shape_for(shape).metadata["max"])

    assert most("TrainingJobName") == most("ModelName") == most("EndpointName") == sagemaker_limits.NAME_LENGTH
    assert most("HyperParameterTuningJobName") == sagemaker_limits.TUNING_NAME_LENGTH
    assert most("InvocationsTimeoutInSeconds") == sagemaker_limits.INVOCATION_SECONDS
    assert most("InvocationsMaxRetries") == sagemaker_limits.INVOCATION_RETRIES
    assert most("TransformEnvironmentMap") == sagemaker_limits.TRANSFORM_VARIABLES
    assert most("ProductionVariantContainerStartupHealthCheckTimeoutInSeconds") == sagemaker_limits.STARTUP_SECONDS[1]


def test_letters_of_any_language_are_legal_in_tags() -> None:
    check_request("sagemaker", "CreateTrainingJob", training(Tags=[{"Key": "팀 이름", "Value": "얼굴 2"}]))


def test_the_limits_are_those_of_the_contract() -> None:
    """The README and the messages rely on these; a new boto3 with other limits must be noticed."""
    shape = service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    hyperparameters = shape.members["HyperParameters"]
    assert (hyperparameters.metadata["max"], hyperparameters.key.metadata["max"]) == (100, 256)
    assert (hyperparameters.value.metadata["max"], hyperparameters.value.metadata["pattern"]) == (2500, ".*")
    assert shape.members["InputDataConfig"].metadata["max"] == 20
    assert shape.members["TrainingJobName"].metadata["max"] == 63
