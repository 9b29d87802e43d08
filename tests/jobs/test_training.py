"""A training job: options are checked, its request is one that AWS accepts, and only the same run is resumed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config import MAY_DIFFER, TrainConfig
from jobs import inputs
from jobs.aws import AwsError
from jobs.common import SecureJobLocation
from jobs.hyperparameters import default_hyperparameters
from jobs.s3 import Upload
from jobs.training import check_restarts, check_resumable, training_channels, training_job
from jobs.training_options import TrainingOptions
from metrics import metric_definitions
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError, JobError
from support.fake_aws import FakeAws
from support.job_requests import LOCATION, LOCATIONS, SECURED, TAGS, VPC, DryRunCommand, checked

Faces = Callable[..., Path]

DATA = ("--data", "s3://my-bucket/faces")
OPTIONS = TrainingOptions(data="s3://my-bucket/faces/")


def request(
    location: SecureJobLocation = LOCATION, options: TrainingOptions = OPTIONS, **hyperparameters: str
) -> dict[str, Any]:
    channels = {"train": "s3://my-bucket/faces/"}
    return checked(
        training_job("faces-1", location, options, "image:tag", channels=channels, hyperparameters=hyperparameters)
    )


# ---- options ----


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "--data: required"),
        ((*DATA, "--max-wait-hours", "3"), "--max-wait-hours: 3 is less than --max-hours 12"),
        ((*DATA, "--spot", "no", "--max-wait-hours", "30"), "only spot jobs wait"),
        ((*DATA, "--warm-pool-minutes", "30"), "spot instances have no warm pool"),
        ((*DATA, "--warm-pool-minutes", "61", "--spot", "no"), "61 is out of range"),
        ((*DATA, "--max-hours", "673"), "673 is out of range"),
        ((*DATA, "--name", "a_b"), "--name: 'a_b' must consist of letters"),
        ((*DATA, "--environment", "A"), "--environment: 'A' is not of the form name=value"),
        ((*DATA, "--pretrained-data", "http://x"), "--pretrained-data: 'http://x' is neither"),
        ((*DATA, "--input-mode", "Pipe"), "unknown value 'Pipe'"),
        ((*DATA, "--resume-from", "s3://b/c"), "--resume-from: 's3://b/c' must consist of letters"),
    ],
)
def test_what_does_not_fit_together_is_named(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("submit.py", flags, {}, TrainingOptions)
    assert sentence in str(caught.value)


def test_a_spot_job_may_wait_as_long_as_it_trains_but_never_longer_than_28_days() -> None:
    assert TrainingOptions(data="x", max_hours=5).wait_hours == 10
    assert TrainingOptions(data="x", max_hours=600).wait_hours == 28 * 24
    assert TrainingOptions(data="x", max_hours=5, max_wait_hours=6).wait_hours == 6


def test_a_spot_job_never_ignores_its_checkpoint() -> None:
    check_restarts({"resume": "never"}, replace(OPTIONS, spot=False))
    check_restarts({"resume": "auto"}, OPTIONS)
    with pytest.raises(ConfigError, match="leave it out, jobs start from scratch anyway"):
        check_restarts({"resume": "never"}, OPTIONS)


@pytest.mark.parametrize("spot", [True, False])
def test_a_job_that_resumes_another_one_never_ignores_its_checkpoint(spot: bool) -> None:
    options = replace(OPTIONS, spot=spot, resume_from="faces-1")
    check_restarts({"resume": "force"}, options)
    sentence = "--resume-from faces-1: --resume never ignores its checkpoint; leave out one of the two"
    with pytest.raises(ConfigError, match=sentence):
        check_restarts({"resume": "never"}, options)


# ---- the request ----


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("instance_type", ["ml.g5.xlarge", "ml.m5.large"])
def test_aws_accepts_every_variant(location: SecureJobLocation, spot: bool, instance_type: str) -> None:
    options = replace(OPTIONS, spot=spot, instance_type=instance_type, input_mode="FastFile", environment="A=1,B=")
    request(location, options, epochs="3")


def test_a_spot_job_has_checkpoints_and_time_to_wait() -> None:
    found = request()
    assert found["EnableManagedSpotTraining"] is True
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 12 * 3600, "MaxWaitTimeInSeconds": 24 * 3600}
    assert found["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


def test_a_job_on_demand_does_not_wait_but_has_checkpoints_too() -> None:
    found = request(options=replace(OPTIONS, spot=False, warm_pool_minutes=30))
    assert "MaxWaitTimeInSeconds" not in found["StoppingCondition"]
    assert found["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 1800
    assert found["CheckpointConfig"] == request()["CheckpointConfig"]


def test_checkpoints_belong_to_the_job_or_to_the_one_it_resumes() -> None:
    own, other = request(), request(options=replace(OPTIONS, resume_from="faces-0"))
    assert own["CheckpointConfig"]["S3Uri"] == "s3://my-bucket/mask-classifier/checkpoints/faces-1/"
    assert other["CheckpointConfig"]["S3Uri"] == "s3://my-bucket/mask-classifier/checkpoints/faces-0/"


def test_the_container_has_no_network_unless_it_is_asked_for() -> None:
    assert request()["EnableNetworkIsolation"] is True
    assert request(replace(LOCATION, network_isolation=False))["EnableNetworkIsolation"] is False


def test_the_profiler_costs_nothing() -> None:
    assert request()["ProfilerConfig"] == {"DisableProfiler": True}


def test_metrics_are_those_that_training_logs() -> None:
    assert request()["AlgorithmSpecification"]["MetricDefinitions"] == metric_definitions()


def test_results_are_encrypted_and_volumes_where_the_instance_does_not_do_it_itself() -> None:
    on_gpu, on_cpu = request(SECURED), request(SECURED, replace(OPTIONS, instance_type="ml.m5.large"))
    assert on_gpu["OutputDataConfig"]["KmsKeyId"] == SECURED.kms_key
    assert "VolumeKmsKeyId" not in on_gpu["ResourceConfig"]  # g5 has a disk of its own: SageMaker would reject it
    assert on_cpu["ResourceConfig"]["VolumeKmsKeyId"] == SECURED.kms_key


def test_a_vpc_and_tags_go_with_the_job() -> None:
    assert request(SECURED)["VpcConfig"] == VPC
    assert request(SECURED)["Tags"] == TAGS


# ---- the data ----


def test_data_larger_than_the_disk_is_rejected_unless_it_is_read_while_training(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainingOptions(data=str(faces(people=2)), volume_gb=50)
    large = Upload(Path(options.data), ("1.jpg",), "s3://my-bucket/data/faces-1/", 60 * 10**9)
    monkeypatch.setattr(inputs, "plan_upload", lambda *given: large)
    with pytest.raises(DataError, match=r"the data has 60\.0 GB, more than --volume-gb 50; raise it, or read while"):
        training_channels(LOCATION, options, {})
    for fitting in (replace(options, volume_gb=70), replace(options, input_mode="FastFile")):
        channels = training_channels(LOCATION, fitting, {})
        assert channels == ({"train": large.uri}, (large,))


def test_a_folder_of_s3_is_not_taken_for_the_beginning_of_another(dry_run: DryRunCommand) -> None:
    for uri in ("s3://my-bucket/faces", "s3://my-bucket/faces/"):
        requests, _ = dry_run("train", "--data", uri)
        (channel,) = requests["CreateTrainingJob"]["InputDataConfig"]
        assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://my-bucket/faces/"


def test_pretrained_weights_are_a_channel_of_their_own(dry_run: DryRunCommand, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/resnet18.pth").write_bytes(b"0")
    requests, printed = dry_run("train", *DATA, "--pretrained-data", str(tmp_path / "weights"))
    channels = [channel["ChannelName"] for channel in requests["CreateTrainingJob"]["InputDataConfig"]]
    assert channels == ["train", "pretrained"]
    assert "uploads  1 file, " in printed


def test_a_folder_that_training_cannot_read_is_not_uploaded(dry_run: DryRunCommand, tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="no profile folders under --data"):
        dry_run("train", "--data", str(tmp_path), "--", "--dataset", "MaskSplitByProfileDataset")
    requests, _ = dry_run("train", "--data", str(tmp_path), "--", "--dataset", "ImageFolderDataset")
    assert requests["CreateTrainingJob"]["HyperParameters"] == {"dataset": "ImageFolderDataset", "recipe": "scratch"}


def test_validation_images_are_a_channel_of_their_own_and_checked_with_the_training_images(
    dry_run: DryRunCommand, tmp_path: Path
) -> None:
    for name in (
        "train/cat/1.jpg",
        "train/dog/1.jpg",
        "val/cat/1.jpg",
        "val/dog/2.jpg",
        "other/cat/1.jpg",
        "other/x/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    data = ("train", "--data", str(tmp_path / "train"), "--validation-data")
    requests, printed = dry_run(*data, str(tmp_path / "val"))
    channels = [channel["ChannelName"] for channel in requests["CreateTrainingJob"]["InputDataConfig"]]
    assert channels == ["train", "validation"]
    assert printed.count("found class folders: 2 images of 2 classes; images per class: cat (1), dog (1)") == 2
    with pytest.raises(DataError, match="validation has classes that training does not have: x;"):
        dry_run(*data, str(tmp_path / "other"))
    requests, _ = dry_run(*data, "s3://my-bucket/val")
    assert requests["CreateTrainingJob"]["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"].endswith("/val/")


def test_people_in_both_folders_are_rejected_before_the_upload(dry_run: DryRunCommand, faces: Faces) -> None:
    data = ("train", "--data", str(faces(people=3)), "--validation-data", str(faces(people=2, folder="val/images")))
    with pytest.raises(DataError, match="2 people are in training and in validation"):
        dry_run(*data)
    requests, _ = dry_run(*data, "--", "--allow-leaks", "true")
    assert requests["CreateTrainingJob"]["HyperParameters"] == {"allow_leaks": "true", "recipe": "scratch"}


def test_what_auto_finds_is_printed_before_the_upload_as_in_training(dry_run: DryRunCommand, tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    requests, printed = dry_run("train", "--data", str(tmp_path))
    assert requests["CreateTrainingJob"]["HyperParameters"] == {"recipe": "scratch"}
    assert (
        "found split folders: 3 images of 2 classes; images per class: cat (2), dog (1); no groups; split given: 2 "
        "train, 1 val\n"
    ) in printed


@pytest.mark.parametrize(("theirs", "ours"), [({}, "ImageFolderDataset"), ({"dataset": "ImageFolderDataset"}, "auto")])
def test_a_job_with_auto_resumes_one_with_a_data_set_and_the_job_compares_what_was_found(
    theirs: dict[str, str], ours: str
) -> None:
    hyperparameters = {"epochs": "3", "dataset": ours}
    earlier = {"HyperParameters": {"epochs": "3"} | theirs}
    check_resumable(aws(described() | earlier), LOCATION, "faces-1", hyperparameters)


# ---- the command ----


def test_a_training_job_from_a_local_folder(dry_run: DryRunCommand, faces: Faces) -> None:
    words = ("--data", str(faces(people=2)), "--price-per-hour", "1.5", "--", "--epochs", "3", "--model", "resnet18")
    requests, printed = dry_run("train", *words)
    found = requests["CreateTrainingJob"]
    assert found["HyperParameters"] == {"epochs": "3", "model": "resnet18", "recipe": "scratch"}
    assert found["AlgorithmSpecification"]["TrainingImage"].endswith("/mask-classifier:abc")
    (channel,) = found["InputDataConfig"]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri.startswith("s3://my-bucket/mask-classifier/data/images-")
    assert uri.endswith("/")
    assert f"14 files, 0.0 MB to {uri}" in printed
    assert "longest  12 h of training, at most 24 h with waiting" in printed
    assert "costs    at most 18.00 (12 instance hours at 1.5); spot costs less" in printed
    assert "resumes" not in printed


def test_every_job_has_a_name_of_its_own_that_ends_with_the_time(dry_run: DryRunCommand) -> None:
    requests, _ = dry_run("train", *DATA, "--name", "faces")
    head, day, time = requests["CreateTrainingJob"]["TrainingJobName"].rsplit("-", 2)
    assert (head, len(day), len(time), (day + time).isdigit()) == ("faces", 6, 9, True)


def test_a_job_starts_from_scratch_unless_it_resumes_another_one(dry_run: DryRunCommand) -> None:
    folder = "s3://my-bucket/mask-classifier/checkpoints"
    found = dry_run("train", *DATA)[0]["CreateTrainingJob"]
    assert found["CheckpointConfig"]["S3Uri"] == f"{folder}/{found['TrainingJobName']}/"
    requests, printed = dry_run("train", *DATA, "--resume-from", "faces-1")
    assert requests["CreateTrainingJob"]["CheckpointConfig"]["S3Uri"] == f"{folder}/faces-1/"
    assert f"resumes  {folder}/faces-1/\n" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*DATA, "--", "--epoch", "3"), "did you mean '--epochs'"),
        ((*DATA, "--epochs", "3"), "unknown argument '--epochs'"),
        ((*DATA, "--instance-type", "g5.xlarge"), "did you mean 'ml.g5.xlarge'"),
        ((*DATA, "--", "--resume", "never"), "leave it out, jobs start from scratch anyway"),
    ],
)
def test_a_typo_costs_nothing(dry_run: DryRunCommand, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dry_run("train", *words)


# ---- resuming another job ----

FOLDER = "s3://my-bucket/mask-classifier/checkpoints/faces-1/"
GIVEN = {"epochs": "30", "lr": "0.01"}


def described(folder: str = FOLDER, **hyperparameters: str) -> dict[str, Any]:
    return {"CheckpointConfig": {"S3Uri": folder}, "HyperParameters": hyperparameters or GIVEN}


def aws(job: Any, *running: str, status: str = "InProgress") -> FakeAws:
    def jobs(asked: dict[str, Any]) -> dict[str, Any]:
        names = running if asked["StatusEquals"] == status else ()
        return {"TrainingJobSummaries": [{"TrainingJobName": name} for name in names]}

    return FakeAws(ListTrainingJobs=jobs, DescribeTrainingJob=job)


def test_the_same_run_may_be_resumed() -> None:
    check_resumable(aws(described()), LOCATION, "faces-1", GIVEN)
    check_resumable(aws(described()), LOCATION, "faces-1", GIVEN | {"threads": "4", "on_bad_image": "skip"})
    check_resumable(aws(described()), LOCATION, "faces-1", GIVEN | {"momentum": "0.9"})  # which is the default


def test_a_run_of_an_earlier_version_is_compared_under_the_current_names() -> None:
    old = described(epochs="30", accumulate="4", statistics="seed")
    check_resumable(aws(old), LOCATION, "faces-1", {"epochs": "30", "parts": "4"})
    check_resumable(aws(old), LOCATION, "faces-1", {"epochs": "30"})  # the run keeps its parts
    with pytest.raises(JobError, match=r"another run \(parts was 4, is 2\)"):
        check_resumable(aws(old), LOCATION, "faces-1", {"epochs": "30", "parts": "2"})


def test_only_jobs_that_still_write_are_asked_about() -> None:
    asked = aws(described())
    check_resumable(asked, LOCATION, "faces-1", GIVEN)
    statuses = [found["StatusEquals"] for operation, found in asked.asked if operation == "ListTrainingJobs"]
    assert statuses == ["InProgress", "Stopping"]
    check_resumable(aws({"HyperParameters": GIVEN}), LOCATION, "faces-1", GIVEN)


def test_another_run_is_rejected_with_the_differences() -> None:
    with pytest.raises(JobError, match=r"another run \(epochs was 30, is 40, head was joint, is factored\)"):
        check_resumable(aws(described()), LOCATION, "faces-1", GIVEN | {"epochs": "40", "head": "factored"})
    check_resumable(aws(described()), LOCATION, "faces-1", GIVEN | {"epochs": "40", "resume": "force"})


def test_a_job_that_was_itself_resumed_names_the_original() -> None:
    first = FOLDER.replace("faces-1", "faces-0")
    with pytest.raises(JobError, match=f"was itself resumed; pass the original job to --resume-from: {first}"):
        check_resumable(aws(described(first)), LOCATION, "faces-1", GIVEN)


def test_a_job_with_another_prefix_is_not_said_to_be_resumed() -> None:
    elsewhere = FOLDER.replace("mask-classifier", "faces")
    with pytest.raises(JobError, match=f"elsewhere; pass its --bucket and --prefix: {elsewhere}$"):
        check_resumable(aws(described(elsewhere)), LOCATION, "faces-1", GIVEN)


def test_two_jobs_never_write_to_the_same_checkpoints() -> None:
    sentence = r"job '{}' is still writing to this checkpoint folder; `submit.py {} {}` first"
    with pytest.raises(JobError, match=sentence.format("faces-2", "stop", "faces-2")):
        check_resumable(aws(described(), "faces-2"), LOCATION, "faces-1", GIVEN)
    with pytest.raises(JobError, match=sentence.format("faces-1", "wait", "faces-1")):
        check_resumable(aws(described(), "faces-1", status="Stopping"), LOCATION, "faces-1", GIVEN)
    other = described(FOLDER.replace("faces-1", "faces-10"))
    check_resumable(aws([other, described()], "faces-10"), LOCATION, "faces-1", GIVEN)


def test_checkpoints_of_a_job_that_sagemaker_has_deleted_can_be_resumed() -> None:
    check_resumable(aws(AwsError("could not find it", "ValidationException")), LOCATION, "faces-1", GIVEN)
    with pytest.raises(AwsError, match="no permission"):
        check_resumable(aws(AwsError("no permission", "AccessDenied")), LOCATION, "faces-1", GIVEN)


@pytest.mark.parametrize("name", MAY_DIFFER)
def test_what_no_bit_depends_on_may_differ(name: str) -> None:
    is_text = isinstance(getattr(TrainConfig, name), str)
    other = {"resume": "force", "on_bad_image": "skip", "recipe": "auto"}.get(name, "other" if is_text else "1")
    assert other != default_hyperparameters()[name]
    check_resumable(aws(described()), LOCATION, "faces-1", GIVEN | {name: other})


def test_a_folder_is_checked_and_described_before_the_upload_as_in_training(
    dry_run: DryRunCommand, tmp_path: Path
) -> None:
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "train/#recycle/2.jpg", "train/3.jpg", "val/cat/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / "train/cat/gone.jpg").symlink_to("nowhere")
    options = ("--", "--dataset", "ImageFolderDataset")
    with pytest.raises(DataError, match=r"--data contains the parts of a split .* pass its folder train as --data"):
        dry_run("train", "--data", str(tmp_path), *options)
    _, printed = dry_run("train", "--data", str(tmp_path / "train"), *options)
    assert "images per class: cat (1), dog (1)\n" in printed
    assert "warning: images outside the folders ignored: 1 (3.jpg); move each into the folder" in printed
    assert "warning: broken links ignored: 1 (cat/gone.jpg); repair or remove them" in printed
    assert "ignored  litter of file systems and tools: 1 (#recycle)\n" in printed
    assert "uploads  3 files" in printed


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ((), "scratch"),
        (("--pretrained-data", "s3://my-bucket/weights"), "finetune"),
        (("--", "--pretrained", "none"), "scratch"),
        (("--network-isolation", "no", "--", "--pretrained", "download"), "finetune"),
        (("--", "--recipe", "original"), "original"),
        (("--", "--recipe", "auto"), "scratch"),
        (("--resume-from", "faces-1"), "auto"),
    ],
)
def test_a_job_has_the_recipe_for_its_initial_weights_or_that_of_the_job_it_resumes(
    words: tuple[str, ...], recipe: str, dry_run: DryRunCommand
) -> None:
    requests, printed = dry_run("train", "--data", "s3://my-bucket/faces", *words)
    assert requests["CreateTrainingJob"]["HyperParameters"]["recipe"] == recipe
    assert ("recipe: " in printed) == ("original" not in words)


@pytest.mark.parametrize(
    ("theirs", "ours", "different"),
    [
        ({"recipe": "scratch"}, {}, ""),
        ({"recipe": "scratch"}, {"recipe": "auto", "epochs": "80"}, ""),
        ({"recipe": "scratch"}, {"recipe": "finetune"}, "lr was 0.003, is 0.002"),
        ({"recipe": "scratch"}, {"epochs": "9"}, "epochs was 80, is 9"),
        ({"epochs": "3"}, {"recipe": "scratch", "epochs": "3"}, "optimizer was SGD, is AdamW"),
    ],
)
def test_a_job_resumes_one_of_the_same_options_whatever_recipe_they_are_from(
    theirs: dict[str, str], ours: dict[str, str], different: str
) -> None:
    earlier = aws({"HyperParameters": theirs})
    if not different:
        check_resumable(earlier, LOCATION, "faces-1", ours)
    else:
        with pytest.raises(ConfigError, match=f"it is another run .*{different}"):
            check_resumable(earlier, LOCATION, "faces-1", ours)
