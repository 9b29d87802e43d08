"""Instance types are told apart by GPU, accelerator and disk, and unused hardware is named."""

import pytest

import submit
from jobs import served_model
from jobs.instances import has_arm, has_gpu, has_local_disk
from jobs.limits import service_model
from runtime.errors import ConfigError
from support.job_requests import IMAGE, ROLE, DryRunCommand


@pytest.mark.parametrize(
    ("instance_type", "gpu", "disk"),
    [
        ("ml.g4dn.xlarge", True, True),
        ("ml.g5.48xlarge", True, True),
        ("ml.p3.2xlarge", True, False),
        ("ml.p4d.24xlarge", True, True),
        ("ml.m5.large", False, False),
        ("ml.m5d.large", False, True),
        ("ml.r5d.xlarge", False, True),
        ("ml.m6i.large", False, False),
    ],
)
def test_instance_types_are_told_apart(instance_type: str, gpu: bool, disk: bool) -> None:
    assert (has_gpu(instance_type), has_local_disk(instance_type)) == (gpu, disk)


def test_every_instance_type_that_transforms_on_a_gpu_is_known_as_one() -> None:
    types = service_model("sagemaker").shape_for("TransformInstanceType").enum
    assert {name.split(".")[1] for name in types if has_gpu(name)} == {"p2", "p3", "g4dn", "g5", "g6", "g6e"}


def test_instances_with_arm_processors_are_rejected_for_an_image_that_is_not_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_model, "job_image", lambda *given, **named: IMAGE)
    types = service_model("sagemaker").shape_for("ProductionVariantInstanceType").enum
    families = {"c6g", "c6gd", "c6gn", "c7g", "c8g", "m6g", "m6gd", "m8g", "r6g", "r6gd", "r7gd", "r8g", "p6e-gb200"}
    assert {name.split(".")[1] for name in types if has_arm(name)} == families
    model, arm = ("--model", "faces-1"), ("--instance-type", "ml.c7g.xlarge")
    location = ("--role", ROLE, "--bucket", "my-bucket", "--region", "eu-west-1", "--dry-run")
    with pytest.raises(ConfigError, match=r"--instance-type: ml\.c7g\.xlarge has ARM processors"):
        submit.main(("deploy", *model, *arm, *location), {})
    submit.main(("deploy", *model, *arm, *location, "--lite"), {})
    submit.main(("deploy", *model, *arm, *location, "--image", IMAGE), {})


def test_every_instance_of_a_job_is_requested_and_paid_for(dry_run: DryRunCommand) -> None:
    words = ("--data", "s3://my-bucket/faces", "--instance-count", "3", "--max-hours", "2", "--price-per-hour", "1.5")
    requests, printed = dry_run("train", *words, "--spot", "no", "--warm-pool-minutes", "30")
    assert requests["CreateTrainingJob"]["ResourceConfig"]["InstanceCount"] == 3
    assert "runs on  3 x ml.g5.xlarge" in printed
    assert "costs    at most 11.25 (7.5 instance hours at 1.5)" in printed
    search = ("--search", "lr=0.1:1", "--max-jobs", "4", "--max-parallel-jobs", "2")
    requests, printed = dry_run("tune", *words, *search)
    definition = requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert definition["ResourceConfig"]["InstanceCount"] == 3
    assert "runs on  6 x ml.g5.xlarge, spot" in printed
    assert "costs    at most 36.00 (24 instance hours at 1.5)" in printed


def test_unused_hardware_is_named(dry_run: DryRunCommand) -> None:
    data, model = ("--data", "s3://my-bucket/faces"), ("--model", "faces-1")
    commands = (("transform", *data, *model), ("deploy", *model))
    for command, *words in commands:
        _, printed = dry_run(command, *words, "--instance-type", "ml.g5.12xlarge")
        assert "waste    ml.g5.12xlarge has several GPUs and a job uses one; choose a type with one" in printed
        assert "waste" not in dry_run(command, *words)[1]
    for command, *words in (("train", *data), ("tune", *data, "--search", "lr=0.1:1")):
        assert "waste" not in dry_run(command, *words, "--instance-type", "ml.g5.12xlarge")[1]
    _, printed = dry_run("train", *data, "--instance-type", "ml.p2.xlarge")
    assert "waste    ml.p2.xlarge has an accelerator that the job cannot use" in printed


def test_a_disk_that_a_given_key_does_not_encrypt_is_named(dry_run: DryRunCommand) -> None:
    data, model = ("--data", "s3://my-bucket/faces"), ("--model", "faces-1")
    key = ("--kms-key", "arn:aws:kms:eu-west-1:123456789012:key/abc")
    commands = (
        ("train", *data),
        ("cv", *data),
        ("tune", *data, "--search", "lr=0.1:1"),
        ("transform", *data, *model),
        ("deploy", *model),
        ("evaluate", "--predictions", "s3://my-bucket/transform", "--ground-truth", "s3://my-bucket/truth"),
    )
    sentence = "key      the disk of ml.g5.xlarge is encrypted by the instance itself; --kms-key is for the files in S3"
    for command, *words in commands:
        own, ours = ("--instance-type", "ml.g5.xlarge"), ("--instance-type", "ml.m5.xlarge")
        assert sentence in dry_run(command, *words, *key, *own)[1], command
        assert "key  " not in dry_run(command, *words, *key, *ours)[1] + dry_run(command, *words, *own)[1], command
