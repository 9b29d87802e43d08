"""Validation images in a folder of their own are validated with, and nobody is in training and validation unnoticed."""

from pathlib import Path

import pytest

from data.label_table import read_label_table
from data.profiles import read_profiles
from data.split import split_samples
from data.split_folders import read_split_folders
from data.validation import add_validation, check_leaks, read_validation
from dataset import create_dataset
from runtime.errors import DataError

PETS = ("cat/1.jpg", "cat/2.jpg", "cow/1.jpg", "dog/1.jpg")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labelled(root: Path, rows: str, header: str = "path,label,group") -> Path:
    touch(root, *(row.partition(",")[0] for row in rows.split()))
    (root / "labels.csv").write_text(f"{header}\n" + "\n".join(rows.split()) + "\n")
    return root


def test_the_classes_are_those_of_training_in_any_order_and_number(tmp_path: Path) -> None:
    train = read_validation("auto", touch(tmp_path / "train", *PETS))
    val = labelled(tmp_path / "val", "cat/1.jpg,dog,a x.jpg,cat,b y.jpg,dog,b")
    both = add_validation(train, read_validation("auto", val))
    assert both.scheme == train.scheme
    assert [both.scheme.classes[label] for label in both.labels] == ["cat", "cat", "cow", "dog", "dog", "cat", "dog"]
    assert split_samples(both, 0.2, 42).tolist() == ["train"] * 4 + ["val"] * 3
    assert both.paths[3:5] == [tmp_path / "train/dog/1.jpg", val / "cat/1.jpg"]
    assert both.table["path"].duplicated().any()
    assert len(set(both.names)) == 7
    assert both.fingerprint() not in (train.fingerprint(), add_validation(train, train).fingerprint())


def test_a_class_that_only_validation_has_is_rejected_by_name(tmp_path: Path) -> None:
    train = read_validation("auto", touch(tmp_path / "train", *PETS))
    val = read_validation("auto", touch(tmp_path / "val", "cat/1.jpg", "emu/1.jpg", "fox/1.jpg"))
    with pytest.raises(DataError, match=f"have: emu, fox; .* are cat, cow, dog: {tmp_path}/val$"):
        add_validation(train, val)


def test_a_folder_for_validation_beside_a_split_is_rejected(tmp_path: Path) -> None:
    given = read_split_folders(touch(tmp_path / "a", *(f"{part}/{name}" for part in ("train", "val") for name in PETS)))
    plain = read_validation("auto", touch(tmp_path / "b", *PETS))
    with pytest.raises(DataError, match="the data for training comes with a split, and there is a folder for valid"):
        add_validation(given, plain)
    with pytest.raises(DataError, match="the data for validation comes with a split, and there is a folder for train"):
        add_validation(plain, given)


def test_a_fold_beside_a_folder_for_validation_is_rejected_with_that_folder(tmp_path: Path) -> None:
    train, val = (read_validation("auto", touch(tmp_path / name, *PETS)) for name in ("a", "b"))
    with pytest.raises(DataError, match=f"^--fold 1/5: there is a folder of validation images, too; .*: {tmp_path}/b$"):
        split_samples(add_validation(train, val), 0.2, 42, fold=(1, 5))


def test_a_missing_folder_is_named_by_its_variable(tmp_path: Path) -> None:
    for name in ("auto", "ImageFolderDataset"):
        with pytest.raises(DataError, match=r"^SM_CHANNEL_VALIDATION does not exist"):
            read_validation(name, tmp_path / "absent")


def test_a_person_or_a_group_in_both_parts_is_rejected_by_name(tmp_path: Path) -> None:
    names = ("000001_male_Asian_23/mask1.jpg", "000002_female_Asian_60/mask1.jpg")
    people = [read_profiles(touch(tmp_path / part, *found)) for part, found in (("t", names), ("v", names[1:]))]
    with pytest.raises(DataError, match=r"^1 people are in training and in validation, .*: 000002; .*--allow-leaks: "):
        check_leaks(add_validation(*people))
    rows = "1.jpg,a,p7,train 2.jpg,b,p8,train 3.jpg,a,p7,val 4.jpg,b,p8,val 5.jpg,b,p9,val"
    table = read_label_table(labelled(tmp_path / "table", rows, "path,label,group,split"))
    with pytest.raises(DataError, match=r"^2 groups are in training and in validation, .*: p7, p8; move each"):
        check_leaks(table)


def test_equal_paths_of_both_folders_are_no_leak_without_groups(tmp_path: Path) -> None:
    samples = [read_validation("auto", touch(tmp_path / part, *PETS)) for part in ("t", "v")]
    check_leaks(add_validation(*samples))
    check_leaks(samples[0])


@pytest.mark.parametrize(("train", "val"), [("pets", "pets"), ("pets", "pets/more"), ("pets/more", "link")])
def test_images_that_both_folders_contain_are_rejected(tmp_path: Path, train: str, val: str) -> None:
    touch(tmp_path / "pets", *PETS, "more/cat/3.jpg", "more/dog/3.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "pets/more")
    rows = [f"{path.relative_to(tmp_path / 'pets')},{path.parent.name}" for path in (tmp_path / "pets").rglob("*.jpg")]
    (tmp_path / "pets/labels.csv").write_text("\n".join(["path,label", *rows]))
    both = add_validation(read_validation("auto", tmp_path / train), read_validation("auto", tmp_path / val))
    first = r"cat/1\.jpg" if val == "pets" else r"more/cat/3\.jpg"
    count = 6 if val == "pets" else 2
    with pytest.raises(DataError, match=f"^{count} images are in training and in validation, .*pets/{first}, .*: "):
        check_leaks(both)
    create_dataset("auto", tmp_path / train, validation_dir=tmp_path / val, allow_leaks=True)
