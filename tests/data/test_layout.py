"""A folder that only looks like a data set is rejected with the folder to pass, or with where its images are."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from data.class_folders import read_class_folders
from data.layout import ARCHIVES, LOOSE_IMAGES, OTHER_FILES, OTHER_IMAGES
from data.listing import BROKEN_LINKS, LITTER
from data.profiles import read_profiles
from runtime.errors import DataError

PETS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
PROFILES = ("000001_male_Asian_23/mask1.jpg", "000002_female_Asian_60/mask1.jpg")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def below(*folders: str, names: tuple[str, ...] = PETS) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names]


SPLIT = "SM_CHANNEL_TRAIN contains the parts of a split"
NO_CLASSES = "SM_CHANNEL_TRAIN has 0 classes; at least 2 are needed, one folder per class"
REJECTED = {
    "train, val and test": (
        below("train", "val", "test"),
        f"{SPLIT} (test, train, val), expected one of them; pass its folder train as SM_CHANNEL_TRAIN, --val-ratio "
        "splits off the validation, and test and val as images to label",
    ),
    "train and test beside a folder of tables": (
        [*below("Train", "Test"), "annotations/a.xml"],
        f"{SPLIT} (Test, Train), expected one of them; pass its folder Train as SM_CHANNEL_TRAIN",
    ),
    "test images without classes beside another folder": (
        [*below("train"), "test/1.jpg", "samples/1.jpg"],
        f"{SPLIT} (test, train), expected one of them; pass its folder train as SM_CHANNEL_TRAIN",
    ),
    "train and the images to label": (
        [*below("train"), "eval/images/1.jpg", "gt/gt.csv"],
        f"{SPLIT} (eval, train), expected one of them; pass its folder train as SM_CHANNEL_TRAIN",
    ),
    "parts with a year": (below("train2017", "val2017"), f"{SPLIT} (train2017, val2017)"),
    "parts in one folder": (below("data/train", "data/valid"), f"{SPLIT} (data/train, data/valid)"),
    "parts without classes": (
        ["train/1.jpg", "test/1.jpg"],
        f"{SPLIT} (test, train), expected one of them; make one folder per class in train, pass its folder train as",
    ),
    "no part to train on": (below("val", "test"), "pass its folder to train on as SM_CHANNEL_TRAIN"),
    "one folder around the classes": (
        below("images"),
        "SM_CHANNEL_TRAIN contains one folder around the class folders (2 (images/cat, images/dog)), expected the "
        "class folders; pass its folder images as SM_CHANNEL_TRAIN",
    ),
    "two folders around the classes": (below("data/images"), "pass its folder data/images as SM_CHANNEL_TRAIN"),
    "a folder around the classes and one of tables": (
        [*below("images"), "annotations/a.xml"],
        "pass its folder images as SM_CHANNEL_TRAIN",
    ),
    "an archive": (["pets.zip"], f"{NO_CLASSES}; archives: 1 (pets.zip), unpack them"),
    "an archive and a class": (
        ["cat/1.jpg", "dog.tar.gz"],
        "has 1 classes; at least 2 are needed, one folder per class, found cat (1 images); archives: 1 (dog.tar.gz), "
        "unpack them",
    ),
    "an archive in a class": (
        ["cat/1.jpg", "dog/all.zip"],
        "no images for class 'dog', expected at least one; archives: 1 (dog/all.zip), unpack them",
    ),
    "images without folders": (
        ["1.jpg", "2.jpg"],
        f"{NO_CLASSES}; images outside the folders: 2 (1.jpg, 2.jpg), move each into the folder that it belongs to",
    ),
    "a table with another name": (
        ["1.jpg", "Labels.CSV"],
        "; tables with other names: 1 (Labels.CSV), call the labels labels.csv, labels.jsonl, labels.parquet or NAME.",
    ),
    "backslashes": (
        ["cat\\1.jpg", "dog\\1.jpg"],
        "names with a backslash: 2 (cat\\1.jpg, dog\\1.jpg), expected folders; unpack the archive again with a tool",
    ),
    "litter alone": (["#recycle/1.jpg", "lost+found/"], NO_CLASSES),
    "two forms of one folder": (
        [f"{unicodedata.normalize(form, 'café')}/{form}.jpg" for form in ("NFC", "NFD")],
        r"the names 'cafe\u0301' and 'caf\xe9' differ only in their Unicode form, rename one of them",
    ),
    "two forms of one image": (
        [*PETS, *(f"cat/{unicodedata.normalize(form, 'é')}.jpg" for form in ("NFC", "NFD"))],
        "differ only in their Unicode form",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_folders_that_are_no_classes_are_rejected_with_path_and_remedy(tmp_path: Path, name: str) -> None:
    names, sentence = REJECTED[name]
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        read_class_folders(touch(tmp_path, *names))
    assert "\n" not in str(caught.value)
    assert f": {tmp_path}" in str(caught.value)


def test_submit_names_its_own_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^--data contains the parts .*; pass its folder train as --data"):
        read_class_folders(touch(tmp_path, *below("train", "val")), "--data")


@pytest.mark.parametrize(
    "classes",
    [
        ("train", "test", "bus"),
        ("train", "tram"),
        ("train1", "train2"),
        ("testing device", "trainer"),
        ("valley", "evaluation board"),
    ],
)
def test_classes_may_have_names_like_those_of_a_split(tmp_path: Path, classes: tuple[str, ...]) -> None:
    samples = read_class_folders(touch(tmp_path, *(f"{name}/1.jpg" for name in classes)))
    assert samples.scheme.classes == tuple(sorted(classes))


def test_classes_may_have_folders_in_them(tmp_path: Path) -> None:
    samples = read_class_folders(touch(tmp_path, *below("good", "bad", names=("left/1.jpg", "right/1.jpg"))))
    assert samples.scheme.classes == ("bad", "good")
    assert len(samples.table) == 4


def test_what_is_ignored_is_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path, *PETS, "loose.jpg", "labels.csv", "pets.zip", "cat/notes.txt", "cat/@eaDir/1.jpg", "cat/Thumbs.db")
    touch(tmp_path, "#recycle/1.jpg", "$RECYCLE.BIN/", "lost+found/", "__MACOSX/cat/1.jpg", ".hidden/1.jpg")
    (tmp_path / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "bird").symlink_to("nowhere")
    samples = read_class_folders(tmp_path)
    assert samples.table["path"].tolist() == list(PETS)
    assert samples.ignored == {
        LITTER: ["#recycle", "$RECYCLE.BIN", "__MACOSX", "cat/@eaDir", "cat/Thumbs.db", "lost+found"],
        BROKEN_LINKS: ["bird", "cat/gone.jpg"],
        OTHER_FILES: ["cat/notes.txt", "labels.csv"],
        LOOSE_IMAGES: ["loose.jpg"],
        ARCHIVES: ["pets.zip"],
    }
    assert samples.ignored_files == 12


def test_what_is_ignored_beside_profiles_is_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path / "images", *PROFILES, "loose.jpg", "@eaDir/1.jpg", f"{PROFILES[0][:-9]}mask6.jpg")
    touch(tmp_path, "train.csv", "__MACOSX/images/000001_male_Asian_23/mask1.jpg")
    (tmp_path / "images/000003_male_Asian_23").symlink_to("nowhere")
    samples = read_profiles(tmp_path)
    assert samples.table["path"].tolist() == list(PROFILES)
    assert samples.ignored == {
        LITTER: ["../__MACOSX", "@eaDir"],
        BROKEN_LINKS: ["000003_male_Asian_23"],
        OTHER_IMAGES: ["000001_male_Asian_23/mask6.jpg"],
        LOOSE_IMAGES: ["loose.jpg"],
    }


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (below("train/images", "val/images", names=PROFILES), "pass its folder train/images as SM_CHANNEL_TRAIN"),
        (["faces.zip"], "no profile folders under SM_CHANNEL_TRAIN, .*; archives: 1 .faces.zip., unpack them"),
        (["mask1.jpg"], "no profile folders .*; images outside the folders: 1 .mask1.jpg., move each"),
        ([name.replace("/", "\\") for name in PROFILES], "names with a backslash: 2"),
    ],
)
def test_folders_that_are_no_profiles_are_rejected_with_path_and_remedy(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=f"{sentence}.*: {tmp_path}"):
        read_profiles(touch(tmp_path, *names))


@pytest.mark.parametrize(("read", "names"), [(read_class_folders, PETS), (read_profiles, PROFILES)])
def test_links_to_folders_and_files_are_images_like_others(
    tmp_path: Path, read: Callable[[Path], object], names: tuple[str, ...]
) -> None:
    plain = touch(tmp_path / "plain", *names)
    linked = tmp_path / "linked"
    for name in names:
        folder, _, file = name.partition("/")
        (linked / folder).mkdir(parents=True, exist_ok=True)
        (linked / folder / file).symlink_to(plain / name)
    (tmp_path / "folders").mkdir()
    for folder in {name.partition("/")[0] for name in names}:
        (tmp_path / "folders" / folder).symlink_to(plain / folder)
    tables = [read(root).table for root in (plain, linked, tmp_path / "folders")]  # type: ignore[attr-defined]
    assert all(table.equals(tables[0]) for table in tables)
    assert len(tables[0]) == len(names)


def test_a_link_to_a_folder_below_a_class_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "more", "3.jpg")
    root = touch(tmp_path / "pets", *PETS)
    (root / "dog/more").symlink_to(tmp_path / "more")
    (root / "dog/back").symlink_to(root)
    assert read_class_folders(root).table["path"].tolist() == [*PETS, "dog/more/3.jpg"]
