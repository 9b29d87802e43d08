"""An evaluation: a processing job that compares two folders which belong together."""

from pathlib import Path
from typing import Any

import pytest

from jobs.common import SecureJobLocation
from jobs.evaluation import EvaluationOptions, processing_job
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError
from support.job_requests import LOCATION, LOCATIONS, SECURED, TAGS, VPC, DryRunCommand, checked


def request(location: SecureJobLocation = LOCATION, arguments: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    inputs = {"predictions": "s3://my-bucket/p/", "ground_truth": "s3://my-bucket/g/"}
    call = processing_job(
        "e-1", location, EvaluationOptions(**options), "image:tag", inputs=inputs, arguments=arguments
    )
    return checked(call)


def test_both_folders_are_asked_for_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", (), {}, EvaluationOptions)
    assert "--predictions: required" in str(caught.value)
    assert "--ground-truth: required" in str(caught.value)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(location: SecureJobLocation, instance_type: str) -> None:
    request(location, ("--bootstrap", "100"), instance_type=instance_type)


def test_the_container_has_no_network_unless_it_is_asked_for() -> None:
    assert request()["NetworkConfig"]["EnableNetworkIsolation"] is True


def test_results_and_volumes_are_encrypted_and_a_vpc_and_tags_go_with_the_job() -> None:
    found = request(SECURED)
    assert found["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == SECURED.kms_key
    assert found["ProcessingOutputConfig"]["KmsKeyId"] == SECURED.kms_key
    assert found["NetworkConfig"]["VpcConfig"] == VPC
    assert found["Tags"] == TAGS


def test_evaluation_reads_and_writes_where_the_container_looks() -> None:
    found = request(arguments=("--bootstrap", "0"))
    paths = {entry["InputName"]: entry["S3Input"]["LocalPath"] for entry in found["ProcessingInputs"]}
    assert paths == {name: f"/opt/ml/processing/{name}" for name in ("predictions", "ground_truth")}
    (output,) = found["ProcessingOutputConfig"]["Outputs"]
    assert output["S3Output"]["LocalPath"] == "/opt/ml/processing/evaluation"
    assert found["AppSpecification"]["ContainerEntrypoint"] == ["evaluate"]
    assert found["AppSpecification"]["ContainerArguments"] == ["--bootstrap", "0"]
    assert "ContainerArguments" not in request()["AppSpecification"]


def write(folder: Path, *names: str, rows: str = "a.jpg,3\n") -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"ImageID,ans\n{rows}")


def test_an_evaluation_compares_two_folders(dry_run: DryRunCommand, tmp_path: Path) -> None:
    beside = ("predictions/answers/a.jpg.out", "predictions/exp/split.csv")
    write(tmp_path, "predictions/output.csv", *beside, "truth/gt.csv")
    folders = ("--predictions", str(tmp_path / "predictions"), "--ground-truth", str(tmp_path / "truth"))
    requests, printed = dry_run("evaluate", *folders, "--", "--bootstrap", "10")
    found = requests["CreateProcessingJob"]
    assert found["AppSpecification"]["ContainerArguments"] == ["--bootstrap", "10"]
    assert printed.count("uploads  1 file, ") == 2  # output.csv and gt.csv, and nothing beside them
    assert "/evaluation.json" in printed
    with pytest.raises(ConfigError, match="did you mean '--bootstrap'"):
        dry_run("evaluate", *folders, "--", "--bootstraps", "10")


def test_predictions_of_other_images_than_the_ground_truth_are_rejected_before_the_upload(
    dry_run: DryRunCommand, tmp_path: Path
) -> None:
    write(tmp_path, "predictions/output.csv")
    write(tmp_path, "truth/gt.csv", rows="b.jpg,3\n")
    folders = ("--predictions", str(tmp_path / "predictions"), "--ground-truth", str(tmp_path / "truth"))
    with pytest.raises(DataError, match=r"output\.csv has no row for 1 image \(b\.jpg\)"):
        dry_run("evaluate", *folders)
