"""Training gets every usable image in one part, names, weights and a fingerprint of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from config import TrainConfig
from runtime.errors import ConfigError, DataError
from training.inputs import Data, read_data, write_split

CPU = torch.device("cpu")
SMALL = TrainConfig(resize=(32, 24), val_ratio=0.34)
Faces = Callable[..., Path]


def indices(data: Data) -> list[int]:
    """Return the indices of all images that are in a part."""
    loaders = (data.train_loader, data.val_loader)
    return sorted(int(index) for loader in loaders for batch in loader.epoch(0) for index in batch.indices)


def parts(data: Data, path: Path) -> dict[str, int]:
    """Return how many images split.csv names in each part."""
    write_split(path, data.split)
    return Counter(pd.read_csv(path)["split"])


def test_every_image_is_in_one_part(faces: Faces, tmp_path: Path) -> None:
    data = read_data(faces(6), replace(SMALL, batch_size=28), CPU)
    assert indices(data) == list(range(42))
    assert parts(data, tmp_path / "split.csv") == {"train": 28, "val": 14}


def test_validation_images_are_named_in_the_order_of_their_loader(faces: Faces) -> None:
    root = faces(6)
    data = read_data(root, SMALL, CPU)
    (batch,) = data.val_loader.epoch(0)
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    assert data.val_names == [paths[index] for index in batch.indices]
    assert set(data.val_names) == {path for path, _, _, part in data.split if part == "val"}
    for position in (0, 13):
        expected = batch.pixels[position].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(data.val_image(position), expected)
        np.testing.assert_array_equal(data.val_images(14)[position], expected)


def test_unusable_images_are_in_no_part_and_named(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = faces(6)
    (sorted(root.iterdir())[2] / "normal.jpg").write_bytes(b"junk")
    config = replace(SMALL, on_bad_image="skip", max_bad_ratio=0.1, batch_size=1)
    data = read_data(root, config, CPU)
    assert len(indices(data)) == 41
    assert "normal.jpg" in capsys.readouterr().err
    assert parts(data, tmp_path / "split.csv")["unusable"] == 1
    assert data.fingerprint["unusable images"] == [[part for _, _, _, part in data.split].index("unusable")]
    assert data.fingerprint != read_data(faces(6, folder="other"), config, CPU).fingerprint


def test_a_part_without_usable_images_is_an_error(faces: Faces) -> None:
    root = faces(6)
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="no usable images"):
        read_data(root, replace(SMALL, on_bad_image="skip", max_bad_ratio=1.0), CPU)


def test_class_weights_are_those_of_the_training_images(faces: Faces) -> None:
    data = read_data(faces(18), replace(SMALL, class_weights="balanced"), CPU)
    assert data.class_weights is not None
    labels = np.array([label for _, _, label, part in data.split if part == "train"])
    counted = data.class_weights.numpy()[labels]
    for label in set(labels):
        assert counted[labels == label].sum() == pytest.approx(len(labels) / len(set(labels)), rel=1e-5)
    assert read_data(faces(6, folder="other"), SMALL, CPU).class_weights is None


def test_weights_that_leave_nothing_to_validate_with_are_a_sentence(faces: Faces) -> None:
    root = faces(6)
    split = read_data(root, SMALL, CPU).split
    labels = [{label for _, _, label, part in split if part == name} for name in ("train", "val")]
    assert not labels[0] & labels[1], "one person of each group"
    with pytest.raises(DataError, match="--class-weights balanced: no validation image"):
        read_data(root, replace(SMALL, class_weights="balanced"), CPU)


def test_statistics_of_the_data_are_those_of_its_training_pixels(faces: Faces) -> None:
    data = read_data(faces(6), replace(SMALL, statistics="dataset"), CPU)
    training = [index for index, (_, _, _, part) in enumerate(data.split) if part == "train"]
    pixels = data.pixels[training] / 255.0
    np.testing.assert_allclose(data.augmentation.preparation.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.augmentation.preparation.std, pixels.std((0, 1, 2)), rtol=1e-6)


def test_splitting_by_image_is_a_warning(faces: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    read_data(faces(6), replace(SMALL, dataset="MaskBaseDataset"), CPU)
    assert "the same person can be in both parts" in capsys.readouterr().err


def test_the_crop_is_a_flag_and_no_argument_of_an_augmentation(faces: Faces) -> None:
    with pytest.raises(ConfigError, match=r"--augmentation-args: .*crop"):
        read_data(faces(6), replace(SMALL, augmentation_args={"crop": 5}), CPU)


def class_folders(root: Path, sizes: dict[str, int]) -> Path:
    for name, images in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.new("RGB", (24, 32)).save(root / name / f"{number}.png")
    return root


def label_table(root: Path, images: int, header: str = "path,label,group") -> Path:
    """Draw images of two classes in groups of three, with a label table."""
    root.mkdir(parents=True)
    rows = []
    for number in range(images):
        Image.new("RGB", (24, 32), (number, 0, 0)).save(root / f"{number:02}.png")
        rows.append(f"{number:02}.png,{'ab'[number % 2]},g{number // 3}")
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def test_groups_of_a_label_table_stay_together_and_what_was_found_is_printed_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data(label_table(tmp_path / "pets", 18), SMALL, CPU)
    assert data.dataset == "LabelTableDataset"
    assert data.scheme.classes == ("a", "b")
    assert parts(data, tmp_path / "split.csv") == {"train": 12, "val": 6}
    table = pd.read_csv(tmp_path / "split.csv")
    assert (table.groupby("person")["split"].nunique() == 1).all()
    assert capsys.readouterr().out.startswith(
        "found label table: 18 images of 2 classes; images per class: a (9), b (9); 6 groups; no split given\ndata: 12 "
    )


def test_an_image_of_a_table_that_does_not_exist_is_met_by_the_policy_for_bad_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = label_table(tmp_path / "pets", 18)
    (root / "04.png").unlink()
    data = read_data(root, replace(SMALL, on_bad_image="skip", max_bad_ratio=0.1), CPU)
    assert parts(data, tmp_path / "split.csv")["unusable"] == 1
    assert "images of labels.csv that do not exist: 1 (04.png)" in capsys.readouterr().err
    store = read_data(root, SMALL, CPU).store
    with pytest.raises(DataError, match=r"1 of 18 images cannot be used, .*04\.png"):
        store.wait()


FOLDERS = replace(SMALL, dataset="ImageFolderDataset", val_ratio=0.2)


def test_classes_are_named_with_counts_and_what_is_ignored_in_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "pets", {"cat": 6, "dog": 4})
    (root / "#recycle").mkdir()
    (root / "cat/gone.jpg").symlink_to("nowhere.jpg")
    read_data(root, FOLDERS, CPU)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "data: 8 images to train on, 2 to validate with, 2 classes, 0 left out, 2 other files ignored",
        "images per class: cat (6), dog (4)",
    ]
    assert printed.err.splitlines() == [
        f"warning: litter of file systems and tools ignored: 1 (#recycle); rename what belongs to the data: {root}",
        f"warning: broken links ignored: 1 (cat/gone.jpg); repair or remove them: {root}",
    ]


def test_classes_without_a_training_image_are_named_in_one_warning_and_training_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"big": 10} | {f"c{number}": 1 for number in range(10)}
    data = read_data(class_folders(tmp_path / "pets", sizes), FOLDERS, CPU)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        "warning: no training image for 2 of 11 classes, which the model cannot learn: 'c4', 'c9';"
    )
    assert [row[:2] for row in data.split if row[3] == "val" and row[2]] == [("c4/0.png",) * 2, ("c9/0.png",) * 2]


def test_a_class_whose_training_images_cannot_be_used_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "pets", {"cat": 8, "dog": 2})
    for path in (root / "dog").iterdir():
        path.write_bytes(b"junk")
    read_data(root, replace(FOLDERS, on_bad_image="skip", max_bad_ratio=0.5), CPU)
    assert "warning: no training image for 1 of 2 classes, which the model cannot learn: 'dog';" in (
        capsys.readouterr().err
    )
