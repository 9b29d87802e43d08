"""What a run is given: everybody in one part, every usable image once, and a fingerprint of both."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from config import TrainConfig
from runtime.errors import ConfigError, DataError
from training.inputs import read_data

SMALL = TrainConfig(resize=(32, 24), val_ratio=0.34)
Faces = Callable[..., Path]


def test_rows_of_both_parts_make_up_the_whole(faces: Faces, tmp_path: Path) -> None:
    data = read_data(faces(6), SMALL)
    together = np.sort(np.concatenate([data.indices["train"], data.indices["val"]]))
    assert together.tolist() == list(range(42))
    data.write_split(tmp_path / "split.csv")
    assert pd.read_csv(tmp_path / "split.csv")["split"].value_counts().to_dict() == {"train": 28, "val": 14}


def test_unusable_images_are_in_no_part_and_named(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = faces(6)
    (sorted(root.iterdir())[2] / "normal.jpg").write_bytes(b"junk")
    data = read_data(root, replace(SMALL, on_bad_image="skip", max_bad_ratio=0.1))
    assert len(data.indices["train"]) + len(data.indices["val"]) == 41
    assert "normal.jpg" in capsys.readouterr().err
    data.write_split(tmp_path / "split.csv")
    assert (pd.read_csv(tmp_path / "split.csv")["split"] == "unusable").sum() == 1
    assert data.fingerprint(SMALL) != read_data(faces(6, folder="other"), SMALL).fingerprint(SMALL)


def test_a_part_without_usable_images_is_an_error(faces: Faces) -> None:
    root = faces(6)
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="no usable images"):
        read_data(root, replace(SMALL, on_bad_image="skip", max_bad_ratio=1.0))


def test_knobs_that_change_nothing_may_differ_between_a_run_and_its_resumption(faces: Faces) -> None:
    data = read_data(faces(6), SMALL)
    assert data.fingerprint(SMALL) == data.fingerprint(replace(SMALL, name="other", threads=4, log_interval=1))
    assert data.fingerprint(SMALL) != data.fingerprint(replace(SMALL, lr=0.5))


def test_statistics_of_the_data_are_those_of_its_training_pixels(faces: Faces) -> None:
    data = read_data(faces(6), replace(SMALL, statistics="dataset"))
    pixels = data.store.pixels[data.indices["train"]] / 255.0
    np.testing.assert_allclose(data.augmentation.preparation.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.augmentation.preparation.std, pixels.std((0, 1, 2)), rtol=1e-6)


def test_splitting_by_image_is_said_to_flatter(faces: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    read_data(faces(6), replace(SMALL, dataset="MaskBaseDataset"))
    assert "people are in both parts" in capsys.readouterr().err


def test_the_crop_is_a_flag_of_its_own_and_no_argument_of_an_augmentation(faces: Faces) -> None:
    with pytest.raises(ConfigError, match=r"--augmentation-args: .*crop"):
        read_data(faces(6), replace(SMALL, augmentation_args={"crop": 5}))
