"""Folders become one table, the same on every machine, and a folder that does not fit the layout is an error."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.class_folders import read_class_folders
from data.profiles import read_profiles
from data.samples import Samples
from data.split import split_samples
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError
from support.shuffled import shuffle_folders

Faces = Callable[..., Path]
STEMS = ("incorrect_mask", "mask1", "mask2", "mask3", "mask4", "mask5", "normal")


def touch(root: Path, *names: str) -> Path:
    """Create empty files, and folders for names that end with a slash; reading the table opens none of them."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


@pytest.mark.parametrize("channel", ["train/images", "train", ""])
def test_the_channel_may_be_the_profile_folders_or_one_or_two_levels_above(
    faces: Faces, tmp_path: Path, channel: str
) -> None:
    root = faces(people=2)
    touch(tmp_path, "train/train.csv")
    samples = read_profiles(tmp_path / channel)
    assert samples.root == root
    assert len(samples.table) == len(samples.paths) == 14
    assert all(path.is_file() for path in samples.paths)


def test_the_table_has_person_and_class_of_every_image(faces: Faces) -> None:
    samples = read_profiles(faces(people=6))
    row = samples.table.set_index("path").loc["000005_female_Asian_60/incorrect_mask.jpg"]
    assert row.to_dict() == {"person": "000005", "label": 11, "mask": 1, "gender": 1, "age": 2}
    decoded = [MASKED_FACES.decode(label) for label in samples.labels]
    assert decoded == list(samples.table[["mask", "gender", "age"]].itertuples(index=False, name=None))
    assert np.bincount(samples.labels, minlength=18).tolist() == [5] * 6 + [1] * 12
    assert samples.ignored_files == 0


def test_an_id_may_have_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "001498-1_male_Asian_23/normal.jpg", "001498_female_Asian_60/normal.jpg")
    assert read_profiles(tmp_path).table["person"].tolist() == ["001498-1", "001498"]


def test_hidden_files_are_ignored_and_other_files_are_counted(tmp_path: Path) -> None:
    profile = "000001_male_Asian_23"
    touch(tmp_path, f"{profile}/mask1.jpg", f"{profile}/._mask1.jpg", f"{profile}/.DS_Store", ".cache/x_y_z_1/a.jpg")
    touch(tmp_path, f"{profile}/mask6.jpg", f"{profile}/Thumbs.db", f"{profile}/mask2.txt", f"{profile}/normal/")
    samples = read_profiles(tmp_path)
    assert samples.table["path"].tolist() == [f"{profile}/mask1.jpg"]
    assert samples.ignored_files == 3


@pytest.mark.parametrize(
    "extension", [".jpg", ".JPG", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".TIF", ".tiff", ".avif"]
)
def test_the_class_depends_on_the_file_stem_and_not_on_the_extension(tmp_path: Path, extension: str) -> None:
    touch(tmp_path, *(f"000001_male_Asian_23/{stem}{extension}" for stem in STEMS))
    assert read_profiles(tmp_path).labels.tolist() == [6, 0, 0, 0, 0, 0, 12]


GOOD = "000001_male_Asian_23/mask1.jpg"
BROKEN = {
    "x_male_Asian_45_2/mask1.jpg": "'x_male_Asian_45_2' is not a profile, expected <id>_<gender>_<race>_<age>",
    "notes/mask1.jpg": "'notes' is not a profile",
    "000002_man_Asian_45/mask1.jpg": "unknown gender 'man'",
    "000002_male_Asian_old/mask1.jpg": "age 'old' is not a whole number of years; rename the profile folder",
    "000002_male_Asian_-5/mask1.jpg": "age -5 is not between 0 and 150 years",
    "000002_male_Asi\udce1n_45/mask1.jpg": "is not UTF-8, rename the file or folder",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_not_a_profile_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    touch(tmp_path, GOOD, name)
    with pytest.raises(DataError, match=re.escape(BROKEN[name])) as caught:
        read_profiles(tmp_path)
    assert re.fullmatch(
        r"[^\n]*: [^\n]+", str(caught.value).encode("utf-8", "surrogateescape").decode(errors="replace")
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "SM_CHANNEL_TRAIN is empty, expected profile folders"),
        (["a/b.jpg"], "no profile folders under SM_CHANNEL_TRAIN, expected <id>_"),
        (["000001_male_Asian_23/"], "no images in the profile folders of SM_CHANNEL_TRAIN"),
        (["000001_male_Asian_23/mask9.jpg"], "no images in the profile folders of SM_CHANNEL_TRAIN"),
        ([f"old/{GOOD}", f"new/{GOOD}"], r"SM_CHANNEL_TRAIN contains several data sets \(new, old\), expected one"),
    ],
)
def test_a_channel_without_exactly_one_data_set_is_an_error_of_one_line(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=f"^{sentence}.*: {tmp_path}"):
        read_profiles(touch(tmp_path, *names))


def test_a_missing_channel_and_a_file_are_named_by_their_variable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^SM_OTHER does not exist"):
        read_profiles(tmp_path / "absent", "SM_OTHER")
    with pytest.raises(DataError, match=r"^SM_CHANNEL_TRAIN is a file"):
        read_profiles(touch(tmp_path, "file") / "file")


def test_the_order_of_directory_entries_changes_neither_table_nor_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = [f"{number:06}_female_Asian_{20 + number}" for number in range(12)]
    touch(tmp_path, *(f"{profile}/{stem}.jpg" for profile in profiles for stem in STEMS))
    expected = read_profiles(tmp_path)
    shuffle_folders(monkeypatch)
    found = read_profiles(tmp_path)
    assert found.table.equals(expected.table)
    assert found.table["path"].is_monotonic_increasing
    assert split_samples(found, 0.2, 42).equals(split_samples(expected, 0.2, 42))


def test_another_image_of_the_same_name_changes_the_fingerprint(tmp_path: Path) -> None:
    first, other = (touch(tmp_path / name, GOOD) for name in ("first", "other"))
    path = read_profiles(other).paths[0]
    path.write_bytes(path.read_bytes() + b"0")
    assert read_profiles(first).fingerprint() != read_profiles(other).fingerprint()
    path.unlink()
    path.symlink_to("nowhere")
    assert read_profiles(first).fingerprint()


def test_the_fingerprint_depends_on_the_data_and_not_on_its_folder(tmp_path: Path) -> None:
    first = read_profiles(touch(tmp_path / "first", GOOD, "000002_male_Asian_60/mask1.jpg"))
    again = read_profiles(touch(tmp_path / "again", GOOD, "000002_male_Asian_60/mask1.jpg"))
    other = read_profiles(touch(tmp_path / "other", GOOD, "000002_male_Asian_60/mask2.jpg"))
    relabelled = Samples(first.root, first.table.assign(label=3), first.scheme)
    assert first.fingerprint() == again.fingerprint()
    assert len({samples.fingerprint() for samples in (first, other, relabelled)}) == 3


def test_class_folders_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dog/1.jpg",
        "cat/b.PNG",
        "cat/deep/a.jpg",
        "cat/notes.txt",
        "cat/.x.jpg",
        "cat/.y/z.jpg",
        ".git/c.jpg",
    )
    samples = read_class_folders(tmp_path)
    assert samples.scheme == LabelScheme("folders", ("cat", "dog"))
    assert samples.table["path"].tolist() == ["cat/b.PNG", "cat/deep/a.jpg", "dog/1.jpg"]
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.table["person"].is_unique
    assert samples.ignored_files == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "SM_CHANNEL_TRAIN is empty, expected one folder per class"),
        (["cat/1.jpg", "dog/notes.txt"], "no images for class 'dog', expected at least one"),
        (["cat/1.jpg"], "has 1 classes; at least 2 are needed"),
        (["cat/1.jpg", "dog/\udce1.jpg"], "is not UTF-8, rename the file or folder"),
    ],
)
def test_class_folders_without_two_classes_of_images_are_an_error_of_one_line(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_class_folders(touch(tmp_path, *names))
