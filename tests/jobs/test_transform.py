"""A batch transform: one image in one request, on a driver that fits, and nothing uploaded that cannot be sent."""

from pathlib import Path
from typing import Any

import pytest

import submit
from jobs import transform as transform_module
from jobs.aws import AwsError
from jobs.common import SecureJobLocation
from jobs.inputs import resolve_input
from jobs.transform import TransformOptions, check_objects, check_payload, transform_job
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError
from support.fake_aws import FakeAws
from support.job_requests import IMAGE, LOCATION, LOCATIONS, ROLE, SECURED, TAGS, DryRunCommand, checked

DATA = ("--data", "s3://bucket/faces")
MODEL = ("--model", "faces-261124-031500")


def request(location: SecureJobLocation = LOCATION, **options: Any) -> dict[str, Any]:
    return checked(transform_job("t-1", location, TransformOptions(**options), "s3://my-bucket/eval/"))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (DATA, "--model: required"),
        (MODEL, "--data: required"),
        (
            (*DATA, *MODEL, "--max-concurrent-transforms", "17"),
            "--max-concurrent-transforms 17 x --max-payload-mb 6 is 102 MB, at most 100 MB are allowed",
        ),
        ((*DATA, *MODEL, "--max-payload-mb", "101"), "101 is out of range"),
        (
            (*DATA, *MODEL, "--environment", "SERVE_PRECISION=bf61"),
            "--environment: SERVE_PRECISION: unknown value 'bf61' (did you mean 'bf16'?)",
        ),
        (
            (*DATA, *MODEL, "--environment", "SERVE_BATCHSIZE=8"),
            "--environment: unknown setting 'SERVE_BATCHSIZE' (did you mean 'SERVE_BATCH_SIZE'?)",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, {}, TransformOptions)
    assert sentence in str(caught.value)


def test_16_images_of_6_mb_or_50_of_2_mb_are_in_flight_at_most() -> None:
    for flags in (("16",), ("50", "--max-payload-mb", "2")):
        parse("submit.py", (*DATA, *MODEL, "--max-concurrent-transforms", *flags), {}, TransformOptions)


def test_the_old_name_of_the_concurrency_is_accepted() -> None:
    (options,) = parse("submit.py", (*DATA, *MODEL, "--concurrency", "8"), {}, TransformOptions)
    assert options.max_concurrent_transforms == 8
    with pytest.raises(ConfigError, match="--concurrency: 0 is out of range"):
        parse("submit.py", (*DATA, *MODEL, "--concurrency", "0"), {}, TransformOptions)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(location: SecureJobLocation, instance_type: str) -> None:
    request(location, instance_type=instance_type, environment="BAD_INPUT=row")


def test_a_gpu_instance_gets_a_driver_for_cuda_12_and_a_cpu_instance_none() -> None:
    resources = request(instance_type="ml.g4dn.xlarge")["TransformResources"]
    assert resources["TransformAmiVersion"] == "al2-ami-sagemaker-batch-gpu-535"
    assert "TransformAmiVersion" not in request(instance_type="ml.c5.xlarge")["TransformResources"]


def test_one_image_is_sent_in_one_request() -> None:
    found = request(max_concurrent_transforms=50, max_payload_mb=2)
    assert found["BatchStrategy"] == "SingleRecord"
    assert found["TransformInput"]["SplitType"] == "None"
    assert (found["MaxConcurrentTransforms"], found["MaxPayloadInMB"]) == (50, 2)


def test_responses_are_encrypted_and_tags_go_with_the_job() -> None:
    assert request(SECURED)["TransformOutput"]["KmsKeyId"] == SECURED.kms_key
    on_cpu = request(SECURED, instance_type="ml.m5.large")["TransformResources"]
    assert on_cpu["VolumeKmsKeyId"] == SECURED.kms_key
    assert "VolumeKmsKeyId" not in request(SECURED, instance_type="ml.g5.xlarge")["TransformResources"]
    assert request(SECURED)["Tags"] == TAGS


def test_a_transform_labels_the_images_of_a_folder_and_nothing_else(dry_run: DryRunCommand, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/a.jpg", "images/b.png", "notes.txt"):
        (tmp_path / name).write_text(name)
    requests, printed = dry_run("transform", "--data", str(tmp_path), "--model", "faces-1", "--environment", "A=1")
    assert list(requests) == ["CreateModel", "CreateTransformJob"]
    model = requests["CreateModel"]["PrimaryContainer"]["ModelDataUrl"]
    assert model == "s3://my-bucket/mask-classifier/training/faces-1/output/model.tar.gz"
    assert requests["CreateTransformJob"]["ModelName"] == requests["CreateModel"]["ModelName"]
    assert requests["CreateTransformJob"]["Environment"] == {"A": "1"}
    assert "uploads  2 files" in printed
    assert "a transform has no time limit of its own" in printed


def test_an_image_larger_than_the_payload_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(2**20 + 1))
    _, uploads = resolve_input(LOCATION, "data", str(tmp_path))
    check_payload(uploads, 2)
    with pytest.raises(DataError, match=r"an image has 1.0 MB, more than --max-payload-mb 1; .*a\.jpg"):
        check_payload(uploads, 1)


def test_an_image_larger_than_the_payload_is_named_before_the_upload(dry_run: DryRunCommand, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(3 * 2**20 + 1))
    sentence = r"an image has 3.0 MB, more than --max-payload-mb 3; raise it, and lower --max-concurrent-transforms"
    with pytest.raises(DataError, match=sentence):
        dry_run("transform", "--data", str(tmp_path), "--model", "faces-1", "--max-payload-mb", "3")


def test_an_object_larger_than_the_payload_is_named_before_the_job_is_paid_for() -> None:
    listed = {"Contents": [{"Key": "eval/a.jpg", "Size": 2**20}, {"Key": "eval/b.jpg", "Size": 2 * 2**20 + 1}]}
    aws = FakeAws(ListObjectsV2=listed)
    check_objects(aws, "s3://photos/eval/", 3)
    with pytest.raises(DataError, match=r"an image has 2\.0 MB, .* 2; raise it, .*: s3://photos/eval/b\.jpg$"):
        check_objects(aws, "s3://photos/eval/", 2)
    check_objects(FakeAws(ListObjectsV2=AwsError("no permission", "AccessDenied")), "s3://photos/eval/", 2)


def test_objects_are_looked_at_only_where_nothing_is_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"KeyCount": 1, "Contents": [{"Key": "faces/a.jpg", "Size": 7 * 2**20}]}
    aws = FakeAws(otherwise={}, ListObjectsV2=large)
    monkeypatch.setattr(transform_module, "Aws", lambda connection: aws)
    words = ("--role", ROLE, "--bucket", "my-bucket", "--image", IMAGE, *DATA, *MODEL)
    with pytest.raises(DataError, match=r"7\.0 MB, more than --max-payload-mb 6"):
        submit.main(("transform", *words), {})
    assert "CreateModel" not in aws.operations
    submit.main(("transform", *words, "--dry-run"), {})
    submit.main(("transform", *words, "--max-payload-mb", "7", "--max-concurrent-transforms", "14"), {})
    assert aws.operations[-1] == "CreateTransformJob"
