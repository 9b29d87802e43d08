"""A manifest of Ground Truth finds its images by the longest suffix of their keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.layout import OTHER_FILES, UNLISTED
from data.manifest import read_manifest, read_manifest_objects
from data.samples import Samples
from labels import LabelScheme
from runtime.errors import DataError

SINGLE = "groundtruth/image-classification"


def line(key: str, name: str | None, attribute: str = "animal", kind: str = SINGLE, **more: Any) -> dict[str, Any]:
    """Return a line as the labelling job of an image classification writes it."""
    label = {} if name is None else {attribute: 0}
    metadata = {
        "class-name": name,
        "confidence": 0.83,
        "job-name": f"labeling-job/{attribute}",
        "human-annotated": "yes",
        "creation-date": "2026-01-02T03:04:05.678",
        "type": kind,
    }
    return {"source-ref": f"s3://bucket/{key}"} | label | {f"{attribute}-metadata": metadata} | more


def folder(root: Path, lines: list[Any], *names: str, file: str = "output.manifest") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    root.mkdir(exist_ok=True)
    (root / file).write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def named(samples: Samples) -> dict[str, str]:
    return {
        path: samples.scheme.classes[label] for path, label in zip(samples.table["path"], samples.labels, strict=True)
    }


PETS = [line("photos/a/1.jpg", "dog"), line("photos/a/2.jpg", "cat"), line("photos/b/1.jpg", "cat")]


@pytest.mark.parametrize("prefix", ["photos/", ""])
def test_the_folders_of_the_bucket_may_be_left_out(tmp_path: Path, prefix: str) -> None:
    files = [f"{prefix}{name}" for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg")]
    samples = read_manifest(folder(tmp_path, PETS, *files, f"{prefix}b/9.jpg", "1.jpg"))
    assert named(samples) == dict(zip(files, ("dog", "cat", "cat"), strict=True))
    assert samples.scheme == LabelScheme("labels", ("cat", "dog"))
    assert set(samples.ignored) == {UNLISTED}
    assert not samples.has_groups
    assert read_manifest(folder(tmp_path, PETS[::-1])).table.equals(samples.table)


def test_images_that_do_not_exist_are_named_and_those_without_a_label_are_left_out(tmp_path: Path) -> None:
    verified = line("a/2.jpg", "ok", "check", "groundtruth/label-verification")
    lines = [line("a/1.jpg", "dog"), verified | line("a/2.jpg", "cat"), line("x/gone.jpg", "cat"), verified, verified]
    samples = read_manifest(folder(tmp_path, lines, "1.jpg", "2.jpg"))
    assert named(samples) == {"1.jpg": "dog", "2.jpg": "cat", "x/gone.jpg": "cat"}
    path = tmp_path / "output.manifest"
    assert samples.notes == [
        f"2 lines of output.manifest have no label and are left out: {path}",
        f"images of output.manifest that do not exist: 1 (x/gone.jpg); --on-bad-image decides: {path}",
    ]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [line("a/1.jpg", "cat"), line("b/1.jpg", "dog")],
            "the keys a/1.jpg and b/1.jpg of output.manifest would",
        ),
        ([line("1.jpg", "cat"), line("1.jpg", "dog")], "rows 1 and 2 of output.manifest contradict each other"),
        (
            [line("8.jpg", "cat"), line("9.jpg", "dog")],
            r"none of the 2 images of output.manifest exists",
        ),
        ([line("1.jpg", "cat")], "output.manifest has 1 classes; at least 2 are needed, found 'cat'"),
        ([line("1.jpg", "cat") | line("1.jpg", "x", "b")], "has the label attributes animal, b, expected one"),
        ([line("1.jpg", "x", kind=f"{SINGLE}-multilabel")], "line 1 of .* has no list animal with a class-map"),
        ([{"source-ref": "s3://b/1.jpg"}], "has no label of an image classification, expected one, with metadata of"),
        (
            [line("1.jpg", "cat") | {"animal-metadata": {"type": SINGLE}}],
            "line 1 of .* has no class-name in animal",
        ),
        ([line("", "cat")], "line 1 of output.manifest has the source-ref 's3://bucket/', expected s3://bucket/key"),
        ([line("../1.jpg", "cat")], "line 1 of output.manifest has the source-ref .* leaves its folder"),
        ([{"source": "text"} | {**line("1.jpg", "cat"), "source-ref": None}], "the source-ref None"),
        (["text"], "row 1 of output.manifest is not an object"),
        ([line("1.jpg", "c\ud83d")], "row 1 of output.manifest contains .*, half of a character"),
    ],
)
def test_lines_that_cannot_be_meant_are_rejected_by_name(tmp_path: Path, lines: list[Any], sentence: str) -> None:
    with pytest.raises(DataError, match=f"{sentence}.*: {tmp_path}/output.manifest$"):
        read_manifest(folder(tmp_path, lines, "1.jpg"))


def test_several_manifests_are_rejected_by_name(tmp_path: Path) -> None:
    folder(tmp_path, PETS, "1.jpg")
    with pytest.raises(DataError, match=r"contains a\.manifest, output\.manifest, expected one manifest"):
        read_manifest(folder(tmp_path, PETS, file="a.manifest"))


def test_a_manifest_in_a_folder_of_its_own_says_the_same(tmp_path: Path) -> None:
    names = ("photos/a/1.jpg", "photos/a/2.jpg", "photos/b/1.jpg")
    beside = read_manifest(folder(tmp_path / "beside", PETS, *names))
    labels = folder(tmp_path / "labels", PETS)
    channel = folder(tmp_path / "channel", [], *names)
    (channel / "output.manifest").unlink()
    apart = read_manifest(channel, labels_dir=labels)
    assert apart.table.equals(beside.table)
    assert (apart.root, apart.scheme, apart.notes) == (channel, beside.scheme, [])
    folder(channel, PETS)
    assert read_manifest(channel, labels_dir=labels).ignored == {OTHER_FILES: ["output.manifest"]}, "of the same name"
    folder(labels, PETS, file="more.manifest")
    with pytest.raises(DataError, match=r"^SM_CHANNEL_LABELS contains more\.manifest, output\.man.*, expected one"):
        read_manifest(channel, labels_dir=labels)
    with pytest.raises(DataError, match=r"^SM_CHANNEL_LABELS contains no \*\.manifest, expected one"):
        read_manifest(channel, labels_dir=folder(tmp_path / "notes", [], file="notes.txt"))
    with pytest.raises(DataError, match=r"^SM_CHANNEL_LABELS does not exist, expected a \*\.manifest"):
        read_manifest(channel, labels_dir=tmp_path / "absent")


def test_objects_in_s3_give_the_data_set_that_their_copies_will_be(tmp_path: Path) -> None:
    lines = [*PETS, PETS[0], {"source-ref": "s3://bucket/photos/c/1.jpg"}]
    root = folder(tmp_path, lines, "photos/a/1.jpg", "photos/a/2.jpg", "photos/b/1.jpg")
    found, copied = read_manifest_objects(root / "output.manifest"), read_manifest(root)
    assert (found.bucket, found.keys) == ("bucket", ["photos/a/1.jpg", "photos/a/2.jpg", "photos/b/1.jpg"])
    assert found.samples.table.equals(copied.table)
    assert (found.samples.scheme, found.samples.notes) == (copied.scheme, copied.notes)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "s3://other/2.jpg",
            r"the images of output.manifest are in 2 buckets \(bucket, other\), expected one; copy them",
        ),
        ("photos/2.jpg", "line 2 of output.manifest has the source-ref 'photos/2.jpg', expected s3://bucket/key"),
        ("s3:///2.jpg", "line 2 of output.manifest has the source-ref 's3:///2.jpg', expected s3://bucket/key"),
    ],
)
def test_objects_that_no_channel_can_have_are_rejected(tmp_path: Path, source: str, sentence: str) -> None:
    folder(tmp_path, [PETS[0], PETS[1] | {"source-ref": source}])
    with pytest.raises(DataError, match=f"{sentence}.*: {tmp_path}/output.manifest$"):
        read_manifest_objects(tmp_path / "output.manifest")
