"""audited.py: which images an audit looks at, and which part each is in."""

import json
import os
from pathlib import Path

import pytest

from data.audited import find_split, read_images
from runtime.errors import DataError
from support.smooth_images import smooth_image


def draw(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        smooth_image(number, (16, 16)).save(folder / name)
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return draw(tmp_path / "train", "cat/1.png", "cat/2.png", "dog/1.png")


def parts(*folders: Path | None, split: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    train, validation, evaluation = folders
    assert train is not None
    images, _ = read_images("auto", train, validation, evaluation, split or {})
    assert all(image.file.is_file() for image in images)
    return {image.path: (image.part, image.label) for image in images}


def test_folders_that_are_not_there_or_empty_are_left_out(train: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = {
        "train/cat/1.png": ("train", "cat"),
        "train/cat/2.png": ("train", "cat"),
        "train/dog/1.png": ("train", "dog"),
    }
    assert parts(train, None, None) == parts(train, tmp_path / "missing", tmp_path / "empty") == found


def test_all_parts_are_read_and_those_to_label_have_no_label(train: Path, tmp_path: Path) -> None:
    validation = draw(tmp_path / "validation", "cat/9.png", "dog/9.png")
    evaluation = draw(tmp_path / "eval", "7.png")
    found = parts(train, validation, evaluation, split={"cat/1.png": "val"})
    assert found["train/cat/1.png"] == ("train", "cat")
    assert found["validation/dog/9.png"] == ("validation", "dog")
    assert found["eval/7.png"] == ("eval", "")
    assert len(found) == 6


def test_an_image_that_info_csv_lists_twice_is_looked_at_once(train: Path, tmp_path: Path) -> None:
    """Else an audit would call it a duplicate of itself."""
    evaluation = draw(tmp_path / "eval", "7.png", "8.png")
    (evaluation / "info.csv").write_text("ImageID\n7.png\n8.png\n7.png\n")
    images, _ = read_images("auto", train, None, evaluation, {})
    assert [image.path for image in images if image.part == "eval"] == ["eval/7.png", "eval/8.png"]


def test_classes_are_spelled_as_in_train(tmp_path: Path) -> None:
    """The same name in another Unicode form is the same class; a class that train lacks keeps its name."""
    train = draw(tmp_path / "train", "caf\u00e9/1.png", "dog/1.png")
    validation = draw(tmp_path / "validation", "cafe\u0301/2.png", "fish/2.png")
    assert [label for _, label in parts(train, validation, None).values()] == ["caf\u00e9", "dog", "caf\u00e9", "fish"]


def test_the_split_of_a_training_says_which_images_of_train_are_for_validation(train: Path) -> None:
    found = parts(train, None, None, split={"cat/1.png": "val", "cat/2.png": "train"})
    assert [part for part, _ in found.values()] == ["validation", "train", "train"]


def test_a_split_that_the_data_comes_with_counts_before_a_training(tmp_path: Path) -> None:
    folder = draw(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png")
    found = parts(folder, None, None)
    assert sorted(part for part, _ in found.values()) == ["train", "train", "validation", "validation"]


def test_the_split_is_that_of_the_newest_run(tmp_path: Path) -> None:
    assert find_split(tmp_path / "missing") == {}
    for age, name in enumerate(("exp2", "exp")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "split.csv").write_text(f"path,person,label,split\n{name}.jpg,1,0,val\n")
        os.utime(tmp_path / name / "split.csv", (1e9 - age, 1e9 - age))
    assert find_split(tmp_path) == {"exp2.jpg": "val"}
    with (tmp_path / "exp2" / "split.csv").open("a") as file:
        file.write("1.jpg,1,0,train\n2.jpg,1,0,train\n1.jpg,1,0,val\n")  # 1.jpg of two folders
    assert find_split(tmp_path) == {"exp2.jpg": "val", "1.jpg": "train", "2.jpg": "train"}
    os.utime(tmp_path / "exp2" / "split.csv", (1e9, 1e9))
    (tmp_path / "exp2" / "split.csv").write_text("a,b\n1,2\n")
    os.utime(tmp_path / "exp2" / "split.csv", (2e9, 2e9))
    with pytest.raises(DataError, match=r"split\.csv cannot be read"):
        find_split(tmp_path)


def test_labels_may_be_in_a_folder_of_their_own(train: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    about = {"type": "groundtruth/image-classification"}
    rows = [("cat/1.png", "tabby"), ("cat/2.png", "siamese"), ("dog/1.png", "poodle")]
    lines = [
        json.dumps({"source-ref": f"s3://pets/{key}", "pet": 0, "pet-metadata": about | {"class-name": name}})
        for key, name in rows
    ]
    (tmp_path / "labels/output.manifest").write_text("\n".join(lines))
    images, scheme = read_images("auto", train, None, None, {}, tmp_path / "labels")
    assert [(image.path.removeprefix("train/"), image.label) for image in images] == rows
    assert scheme.classes == ("poodle", "siamese", "tabby")
    images, _ = read_images("auto", train, None, None, {}, tmp_path / "missing")
    assert {image.label for image in images} == {"cat", "dog"}
