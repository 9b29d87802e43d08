"""`--dataset auto` takes the layout that a folder has, and every layout is in the registry."""

from pathlib import Path

import pytest

from data.readers import LAYOUTS, find_dataset, read_apart
from data.summary import describe_found
from runtime.errors import ConfigError, DataError

PETS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
PROFILES = ("000001_male_Asian_23/mask1.jpg", "000002_female_Asian_60/mask1.jpg")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def below(*folders: str, names: tuple[str, ...] = PETS) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (PETS, "ImageFolderDataset"),
        ([*PETS, "output.manifest"], "ManifestDataset"),
        ([*PETS, "train.lst"], "LabelTableDataset"),
        ([*PETS, "labels.csv"], "LabelTableDataset"),
        ([*below("train", "val"), "labels.jsonl"], "LabelTableDataset"),
        (["a_b_c_d/1.jpg", "e_f_g_h/1.jpg"], "ImageFolderDataset"),
        (["train/1.jpg", "val/1.jpg", "plane/1.jpg"], "ImageFolderDataset"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg"], "ImageFolderDataset"),
        (PROFILES, "MaskSplitByProfileDataset"),
        (below("images", names=PROFILES), "MaskSplitByProfileDataset"),
        (below("train/images", names=PROFILES), "MaskSplitByProfileDataset"),
        (below("train", "val", names=PROFILES), "MaskSplitByProfileDataset"),
        (below("train", "val"), "SplitFolderDataset"),
        (below("Train", "Valid", "test"), "SplitFolderDataset"),
        (below("train", "validation", "notes"), "SplitFolderDataset"),
    ],
)
def test_auto_finds_the_layout_of_a_folder(tmp_path: Path, names: list[str], expected: str) -> None:
    assert find_dataset("auto", touch(tmp_path, *names)) == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_data_set_that_is_named_is_not_looked_for(tmp_path: Path, name: str) -> None:
    assert find_dataset(name, tmp_path / "absent") == name


def test_a_folder_without_a_data_set_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^--data does not exist, expected labels.csv, a .*, one folder per class, train and val with"
    ):
        find_dataset("auto", tmp_path / "absent", "--data")
    with pytest.raises(DataError, match="is empty"):
        find_dataset("auto", tmp_path)


def test_what_was_found_is_one_line_with_classes_groups_and_split(tmp_path: Path) -> None:
    lines = {
        "class folders": (PETS, "3 images of 2 classes; images per class: cat (2), dog (1); no groups; no split given"),
        "profile folders": (PROFILES, "2 images of 18 classes; classes: mask x gender x age; 2 people; no split given"),
        "split folders": (
            [*below("train"), "val/dog/1.jpg"],
            "4 images of 2 classes; images per class: cat (2), dog (2); no groups; split given: 3 train, 1 val",
        ),
    }
    for title, (names, line) in lines.items():
        root = touch(tmp_path / title, *names)
        layout = LAYOUTS[find_dataset("auto", root)]
        assert describe_found(layout.read(root, "SM_CHANNEL_TRAIN"), layout.title) == f"found {title}: {line}"


def test_labels_in_a_folder_of_their_own_are_of_a_manifest(tmp_path: Path) -> None:
    channel, labels = touch(tmp_path / "train", *PETS, "labels.csv"), touch(tmp_path / "labels", "output.manifest")
    for name in ("auto", "ManifestDataset"):
        assert find_dataset(name, channel, labels_dir=labels) == "ManifestDataset"
    sentence = r"^--dataset LabelTableDataset does not read labels in a folder of their own; pass auto or Manifest"
    with pytest.raises(ConfigError, match=sentence):
        find_dataset("LabelTableDataset", channel, labels_dir=labels)
    with pytest.raises(ConfigError, match=sentence):
        read_apart("LabelTableDataset", channel, labels)
