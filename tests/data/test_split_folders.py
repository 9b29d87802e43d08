"""train/CLASS and val/CLASS are read with the split that they are; other folders are left alone and named."""

from pathlib import Path

import pytest

from data.layout import LOOSE_IMAGES, OTHER_FILES, OTHER_PARTS
from data.split import split_samples
from data.split_folders import read_split_folders
from labels import LabelScheme
from runtime.errors import DataError
from support.shuffled import shuffle_folders

GIVEN = ("train/cat/1.jpg", "train/cat/deep/2.jpg", "train/dog/1.jpg", "val/dog/1.jpg", "val/dog/3.jpg")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_folders_are_the_split_and_test_is_left_alone_and_named(tmp_path: Path) -> None:
    touch(tmp_path, *GIVEN, "test/cat/9.jpg", "loose.jpg", "readme.txt", "val/dog/notes.txt", "train/.x/1.jpg")
    samples = read_split_folders(tmp_path)
    assert samples.table.to_dict("list") == {
        "path": list(GIVEN),
        "person": list(GIVEN),
        "label": [0, 0, 1, 1, 1],
        "part": ["train"] * 3 + ["val"] * 2,
    }
    assert samples.scheme == LabelScheme("folders", ("cat", "dog"))
    assert samples.ignored == {
        OTHER_PARTS: ["test"],
        LOOSE_IMAGES: ["loose.jpg"],
        OTHER_FILES: ["val/dog/notes.txt"],
    }
    assert split_samples(samples, 0.9, 7).equals(samples.table["part"])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([*GIVEN, "valid/dog/1.jpg"], "contains val and valid, expected one folder for this part"),
        (["train/cat/1.jpg", "train/dog/1.jpg"], "contains no folder val or valid or validation"),
        (["train/cat/1.jpg", "val/cat/1.jpg"], "SM_CHANNEL_TRAIN/train has 1 classes; at least 2 are needed"),
        ([*GIVEN, "val/cow/1.jpg"], "validation has classes that training does not have: cow; .* are cat, dog: .*/val"),
        ([*GIVEN[:3], "val/cat/notes.txt"], "no images in the class folders of this part of SM_CHANNEL_TRAIN: .*/val"),
    ],
)
def test_parts_that_do_not_fit_are_rejected_by_name(tmp_path: Path, names: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_split_folders(touch(tmp_path, *names))


def test_a_fold_of_data_with_a_split_of_its_own_is_rejected(tmp_path: Path) -> None:
    samples = read_split_folders(touch(tmp_path, *GIVEN))
    with pytest.raises(DataError, match="--fold 1/5: the data comes with a split; leave the option out"):
        split_samples(samples, 0.2, 42, fold=(1, 5))


def test_the_part_of_an_image_changes_the_fingerprint_and_the_order_of_files_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_split_folders(touch(tmp_path / "first", *GIVEN))
    moved = first.table.assign(part=first.table["part"].mask(first.table["path"] == GIVEN[0], "val"))
    assert type(first)(first.root, moved, first.scheme).fingerprint() != first.fingerprint()
    shuffle_folders(monkeypatch)
    again = read_split_folders(first.root)
    assert again.table.equals(first.table)
    assert again.fingerprint() == first.fingerprint()
