"""Before training, a user reads what the classes are, what is ignored, and which names of classes can mislead."""

from pathlib import Path

import numpy as np
import pytest

from data.class_folders import read_class_folders
from data.profiles import read_profiles
from data.samples import Samples
from data.summary import describe_classes, describe_untrained, find_warnings


def class_folders(root: Path, *classes: str, images: int = 2) -> Samples:
    for name in classes:
        (root / name).mkdir()
        for number in range(images):
            (root / name / f"{number}.jpg").touch()
    return read_class_folders(root)


def test_classes_are_named_with_the_number_of_their_images(tmp_path: Path) -> None:
    samples = class_folders(tmp_path, "dog", "cat", images=3)
    assert describe_classes(samples) == ["images per class: cat (3), dog (3)"]


def test_of_many_classes_the_first_are_named(tmp_path: Path) -> None:
    (line,) = describe_classes(class_folders(tmp_path, *(f"class{number:02}" for number in range(25)), images=1))
    assert line.endswith("class18 (1), class19 (1) and 5 more")


def test_the_classes_of_masked_faces_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "000001_male_Asian_23").mkdir()
    (tmp_path / "000001_male_Asian_23/mask1.jpg").touch()
    assert describe_classes(read_profiles(tmp_path)) == []


def test_everything_ignored_is_a_warning_with_number_names_remedy_and_path(tmp_path: Path) -> None:
    assert find_warnings(class_folders(tmp_path, "cat", "dog")) == []
    (tmp_path / "#recycle").mkdir()
    for number in range(5):
        (tmp_path / f"{number}.jpg").touch()
    assert find_warnings(read_class_folders(tmp_path)) == [
        f"litter of file systems and tools ignored: 1 (#recycle); rename what belongs to the data: {tmp_path}",
        "images outside the folders ignored: 5 (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg); move each into the folder that it "
        f"belongs to: {tmp_path}",
    ]


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([f"{number:02}" for number in range(1, 12)], "01 is class 0, 02 is class 1, 03 is class 2, ...;"),
        (["1", "2"], "1 is class 0, 2 is class 1;"),
        (["0", "2.0"], "2.0 is class 1;"),
        (["1", "cat"], "1 is class 0;"),
        ([str(number) for number in range(11)], "10 is class 2, 2 is class 3, 3 is class 4, ...;"),
    ],
)
def test_folders_named_by_numbers_that_are_not_their_own_are_said(
    tmp_path: Path, classes: list[str], sentence: str
) -> None:
    (warning,) = find_warnings(class_folders(tmp_path, *classes))
    assert warning.startswith(f"folders named by numbers are not their own class numbers: {sentence}")


@pytest.mark.parametrize("classes", [["0", "1", "2"], ["00", "01"], ["cat", "dog"], ["class1", "class2"]])
def test_folders_named_by_their_own_numbers_or_by_names_are_not_mentioned(tmp_path: Path, classes: list[str]) -> None:
    assert find_warnings(class_folders(tmp_path, *classes)) == []


def test_every_class_without_a_training_image_is_named_in_one_warning(tmp_path: Path) -> None:
    samples = class_folders(tmp_path, *(f"c{number}" for number in range(30)), images=1)
    assert describe_untrained(samples, np.arange(30)) == []
    (warning,) = describe_untrained(samples, np.arange(5))
    assert warning.startswith("no training image for 25 of 30 classes, which the model cannot learn: ")
    assert [f"'c{number}'" in warning for number in (0, 1, 12, 13, 29, 9)] == [False, False, False, True, True, True]
