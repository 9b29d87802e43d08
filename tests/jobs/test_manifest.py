"""A manifest of Ground Truth as --data: exactly its objects are the channel `train`, itself is the channel `labels`."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.common import SecureJobLocation
from jobs.manifest import manifest_channels, read_label_manifest
from jobs.training import training_channels, training_job
from jobs.training_options import TrainingOptions
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError
from support.job_requests import LOCATION, LOCATIONS, DryRunCommand, checked


def write(path: Path, *labels: tuple[str, str], bucket: str = "photos") -> Path:
    lines = []
    for key, name in labels:
        metadata = {"class-name": name, "type": "groundtruth/image-classification"}
        lines.append(json.dumps({"source-ref": f"s3://{bucket}/{key}", "animal": 0, "animal-metadata": metadata}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write(
        tmp_path / "pets.manifest", ("b/2.jpg", "cat"), ("a/1.jpg", "dog"), ("a/1.jpg", "dog"), ("c.jpg", "cat")
    )


def sources(requests: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return type and URI of every channel of a training job."""
    channels = requests["CreateTrainingJob"]["InputDataConfig"]
    each = {channel["ChannelName"]: channel["DataSource"]["S3DataSource"] for channel in channels}
    return {name: (source["S3DataType"], source["S3Uri"]) for name, source in each.items()}


def test_the_job_gets_the_objects_of_a_manifest_and_the_manifest(dry_run: DryRunCommand, manifest: Path) -> None:
    requests, printed = dry_run("train", "--data", str(manifest), "--validation-data", "s3://my-bucket/val")
    assert requests["CreateTrainingJob"]["AlgorithmSpecification"]["TrainingInputMode"] == "File"
    found = sources(requests)
    assert list(found) == ["train", "labels", "validation"]
    (kind, objects), (labels_kind, labels) = found["train"], found["labels"]
    assert (kind, labels_kind) == ("ManifestFile", "S3Prefix")
    assert objects.startswith("s3://my-bucket/mask-classifier/data/pets-objects-")
    assert objects.endswith("/objects.json")
    assert labels.startswith("s3://my-bucket/mask-classifier/data/pets-")
    assert labels.endswith("/")
    assert "found manifest: 3 images of 2 classes; images per class: cat (2), dog (1)" in printed
    assert "warning: 1 rows of pets.manifest repeat another one and count once" in printed
    assert printed.count("uploads  1 file, ") == 2


def test_the_uploads_are_the_list_of_the_objects_and_the_manifest_as_it_is(manifest: Path) -> None:
    channels, (objects, labels) = training_channels(LOCATION, TrainingOptions(data=str(manifest)), {})
    assert channels == {"train": f"{objects.uri}objects.json", "labels": labels.uri}
    with objects.open("objects.json") as file:
        assert json.load(file) == [{"prefix": "s3://photos/"}, "a/1.jpg", "b/2.jpg", "c.jpg"]
    with labels.open("pets.manifest") as file:
        assert file.read() == manifest.read_bytes()
    same = manifest_channels(LOCATION, read_label_manifest(str(manifest), None))
    assert same == (channels, (objects, labels)), "the same manifest is uploaded once"
    write(manifest, ("b/2.jpg", "dog"), ("a/1.jpg", "dog"), ("c.jpg", "cat"))
    _, (same_objects, other) = training_channels(LOCATION, TrainingOptions(data=str(manifest)), {})
    assert (same_objects, other.uri == labels.uri) == (objects, False)


@pytest.mark.parametrize("location", LOCATIONS)
def test_aws_accepts_the_request(location: SecureJobLocation, manifest: Path) -> None:
    options = TrainingOptions(data=str(manifest))
    channels, _ = training_channels(location, options, {})
    checked(training_job("pets-1", location, options, "image:tag", channels=channels, hyperparameters={}))


def test_a_search_for_hyperparameters_reads_a_manifest_too(dry_run: DryRunCommand, manifest: Path) -> None:
    requests, _ = dry_run("tune", "--data", str(manifest), "--search", "lr=0.001:0.1:log")
    definition = requests["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]
    assert [channel["ChannelName"] for channel in definition["InputDataConfig"]] == ["train", "labels"]


@pytest.mark.parametrize("data", ["pets.manifest", "s3://photos/pets.manifest"])
@pytest.mark.parametrize("mode", ["FastFile", "Pipe"])
def test_only_file_mode_reads_the_objects_of_a_manifest(data: str, mode: str) -> None:
    with pytest.raises(ConfigError, match=f"--input-mode: .*{mode}.*File") as caught:
        parse("submit.py", ("--data", data, "--input-mode", mode), {}, TrainingOptions)
    assert "\n" not in str(caught.value)


def test_a_manifest_of_validation_images_is_refused_with_what_to_do() -> None:
    words = ("--data", "s3://photos/train", "--validation-data", "s3://photos/val.manifest")
    with pytest.raises(ConfigError, match="--validation-data: a manifest is for --data only, expected a folder with"):
        parse("submit.py", words, {}, TrainingOptions)


def test_several_labels_are_found_and_said_before_anything_is_sent(dry_run: DryRunCommand, tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_text("")
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,cat|tree\n2.jpg,tree\n")
    _, printed = dry_run("train", "--data", str(tmp_path))
    assert "found label table: 2 images of 2 classes, several for each image" in printed
    _, printed = dry_run("train", "--data", str(tmp_path), "--", "--task", "single")
    assert "2 images of 2 classes; images per class: cat|tree (1), tree (1)" in printed


def test_a_folder_with_the_ending_of_a_manifest_is_a_folder(dry_run: DryRunCommand, tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / "pets.manifest" / name).parent.mkdir(parents=True)
        (tmp_path / "pets.manifest" / name).write_text("")
    requests, printed = dry_run("train", "--data", str(tmp_path / "pets.manifest"))
    assert list(sources(requests)) == ["train"]
    assert "found class folders" in printed


def test_what_the_job_would_reject_is_rejected_before_anything_is_sent(
    dry_run: DryRunCommand, manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--dataset ImageFolderDataset does not read labels in a folder of their own"):
        dry_run("train", "--data", str(manifest), "--", "--dataset", "ImageFolderDataset")
    with pytest.raises(DataError, match=r"^--data does not exist, expected a folder or a \*.manifest: .*/no.manifest"):
        dry_run("train", "--data", str(tmp_path / "no.manifest"))
    with pytest.raises(ConfigError, match=r"--dry-run sends nothing, .* download it first: s3://photos/pets.manifest"):
        dry_run("train", "--data", "s3://photos/pets.manifest")
    write(manifest, ("a.jpg", "cat"), ("b.jpg", "cat"))
    with pytest.raises(DataError, match=r"pets\.manifest has 1 classes"):
        dry_run("train", "--data", str(manifest))
    write(manifest, ("a.jpg", "cat"), ("b.jpg", "dog"))
    for name in ("val/cat/1.jpg", "val/emu/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="validation has classes that training does not have: emu"):
        dry_run("train", "--data", str(manifest), "--validation-data", str(tmp_path / "val"))
