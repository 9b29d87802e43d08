"""The original's data sets under their names, without the original's defects."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import dataset as module
from augmentation import BaseAugmentation, CustomAugmentation, StrongAugmentation
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.readers import READERS
from dataset import (
    AgeLabels,
    GenderLabels,
    ImageFolderDataset,
    MaskBaseDataset,
    MaskLabels,
    MaskSplitByProfileDataset,
    TestDataset,
    create_dataset,
    pixel_statistics,
)
from runtime.errors import ConfigError, DataError, ImageError

CODE = Path(__file__).parents[1] / "code"
Faces = Callable[..., Path]
SIZE = (32, 24)


def people_of(data: MaskBaseDataset, part: str) -> set[str]:
    return set(data.samples.table.loc[data.split == part, "person"])


def test_every_name_of_the_original_can_be_imported_from_dataset() -> None:
    names = "is_image_file BaseAugmentation AddGaussianNoise CustomAugmentation MaskLabels GenderLabels AgeLabels "
    names += "MaskBaseDataset MaskSplitByProfileDataset TestDataset"
    for name in names.split():
        assert name in module.__all__
    assert all(hasattr(importlib.import_module("dataset"), name) for name in module.__all__)


def test_an_item_is_a_normalised_image_and_its_class(faces: Faces) -> None:
    data = MaskSplitByProfileDataset(faces())
    data.set_transform(BaseAugmentation(SIZE))
    image, label = data[8]
    assert len(data) == 84
    assert data.num_classes == 18
    assert image.shape == (3, *SIZE)
    assert image.dtype == torch.float32
    assert (label, type(label)) == (data.samples.labels[8], int)
    images, labels = next(iter(DataLoader(data, batch_size=5)))
    assert images.shape == (5, 3, *SIZE)
    assert labels.tolist() == data.samples.labels[:5].tolist()


def test_two_data_sets_in_one_process_share_no_lists(faces: Faces) -> None:
    first = MaskBaseDataset(faces(people=6, folder="first"))
    second = MaskBaseDataset(faces(people=12, folder="second"))
    assert (len(first), len(second)) == (42, 84)


def test_a_split_by_profile_has_nobody_in_both_parts_and_every_image_in_one(faces: Faces) -> None:
    data = MaskSplitByProfileDataset(faces(people=20))
    assert people_of(data, "train").isdisjoint(people_of(data, "val"))
    assert len(people_of(data, "val")) == 4
    assert sorted([*data.indices("train"), *data.indices("val")]) == list(range(140))
    assert not data.people_in_both_parts


def test_the_base_data_set_splits_by_image_and_declares_people_in_both_parts(faces: Faces) -> None:
    data = MaskBaseDataset(faces(people=20))
    assert people_of(data, "train") & people_of(data, "val")
    assert len(data.indices("val")) == 28
    assert data.people_in_both_parts


@pytest.mark.parametrize(("ratio", "count"), [(0.1, 2), (0.2, 4), (0.5, 10)])
def test_validation_gets_the_ratio_that_is_set(faces: Faces, ratio: float, count: int) -> None:
    data = MaskSplitByProfileDataset(faces(people=20), val_ratio=ratio)
    assert len(people_of(data, "val")) == count


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_an_empty_part_is_an_error(faces: Faces, ratio: float) -> None:
    with pytest.raises(DataError, match="leaves no people for"):
        MaskSplitByProfileDataset(faces(people=2), val_ratio=ratio)


def test_validation_is_never_augmented_and_training_is(faces: Faces) -> None:
    data = MaskSplitByProfileDataset(faces())
    augmentation = StrongAugmentation(SIZE)
    data.set_transform(augmentation)
    train, val = data.split_dataset()
    assert (len(train), len(val)) == (len(data.indices("train")), len(data.indices("val")))
    plain = BaseAugmentation(SIZE)
    for position, index in enumerate(data.indices("val")):
        assert torch.equal(val[position][0], plain(data.samples.paths[index]))
        assert val[position][1] == data.samples.labels[index]
    assert not torch.equal(train[0][0], train[0][0])
    assert train[0][1] == data.samples.labels[data.indices("train")[0]]


def test_validation_is_prepared_as_training_is(faces: Faces) -> None:
    data = MaskSplitByProfileDataset(faces())
    augmentation = CustomAugmentation(SIZE, crop=(40, 30))
    data.set_transform(augmentation)
    _, val = data.split_dataset()
    assert val.transform.preparation == augmentation.preparation


def test_without_a_transform_the_error_says_what_to_do(faces: Faces) -> None:
    data = MaskBaseDataset(faces(people=6))
    with pytest.raises(ConfigError, match="call set_transform"):
        data[0]
    with pytest.raises(ConfigError, match="call set_transform"):
        data.split_dataset()


def test_classes_are_encoded_and_decoded_as_in_the_original() -> None:
    assert MaskBaseDataset.encode_multi_class(MaskLabels.NORMAL, GenderLabels.FEMALE, AgeLabels.OLD) == 17
    found = MaskBaseDataset.decode_multi_class(7)
    assert found == (MaskLabels.INCORRECT, GenderLabels.MALE, AgeLabels.MIDDLE)
    assert [type(part) for part in found] == [MaskLabels, GenderLabels, AgeLabels]


def test_denormalising_restores_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3), dtype=np.uint8)
    normalised = BaseAugmentation().normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert np.array_equal(MaskBaseDataset.denormalize_image(normalised, ORIGINAL_MEAN, ORIGINAL_STD), pixels)
    assert np.array_equal(
        MaskBaseDataset.denormalize_image(normalised[0].numpy(), ORIGINAL_MEAN, ORIGINAL_STD), pixels[0]
    )
    beyond = MaskBaseDataset.denormalize_image(np.array([[[9.0, -9.0, 0.0]]]), ORIGINAL_MEAN, ORIGINAL_STD)
    assert beyond.tolist() == [[[255, 0, 122]]]


def test_an_image_is_read_upright_at_its_own_size(faces: Faces) -> None:
    data = MaskBaseDataset(faces(people=6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (60, 20), 99).save(data.samples.paths[0], exif=exif)
    assert data.read_image(0).size == (20, 60)
    assert data.read_image(0).mode == "RGB"
    assert data.read_image(1).size == (48, 64)


@pytest.mark.parametrize("indices", [[0, 1, 2, 3, 4], [3], [4, 0, 4]])
def test_pixel_statistics_are_mean_and_standard_deviation_over_all_pixels(indices: list[int]) -> None:
    pixels = np.random.default_rng(0).integers(0, [256, 128, 20], (5, 16, 12, 3)).astype(np.uint8)
    mean, std = pixel_statistics(pixels, np.array(indices))
    chosen = pixels[indices].reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, chosen.mean(0), atol=1e-9)
    np.testing.assert_allclose(std, chosen.std(0), atol=1e-9)


def test_images_of_one_colour_can_still_be_normalised() -> None:
    mean, std = pixel_statistics(np.full((2, 4, 4, 3), 77, np.uint8), np.arange(2))
    assert mean == pytest.approx((77 / 255,) * 3)
    assert std == pytest.approx((1 / 255,) * 3)


def test_the_test_data_set_prepares_images_as_training_does(faces: Faces) -> None:
    data = MaskBaseDataset(faces(people=6))
    training = CustomAugmentation(SIZE, crop=(40, 30))
    test = TestDataset([str(path) for path in data.samples.paths], SIZE, crop=(40, 30))
    assert len(test) == 42
    for index in (0, 20, 41):
        pixels = torch.from_numpy(training.prepare(data.samples.paths[index]).copy()).permute(2, 0, 1)
        assert torch.equal(test[index], training.normalize(pixels.unsqueeze(0))[0])
        twin = v2.Normalize(ORIGINAL_MEAN, ORIGINAL_STD)(v2.ToDtype(torch.float32, scale=True)(pixels))
        torch.testing.assert_close(test[index], twin, rtol=0, atol=1e-5)
    assert next(iter(DataLoader(test, batch_size=4))).shape == (4, 3, *SIZE)


def test_the_test_data_set_names_a_bad_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=f"{tmp_path / 'a.jpg'}$"):
        TestDataset([tmp_path / "a.jpg"], SIZE)[0]


def test_class_folders_with_any_images_are_a_data_set(faces: Faces, tmp_path: Path) -> None:
    faces(people=2, folder="classes/cat")
    faces(people=4, folder="classes/dog")
    data = create_dataset("ImageFolderDataset", str(tmp_path / "classes"), val_ratio=0.5)
    data.set_transform(BaseAugmentation(SIZE))
    assert isinstance(data, ImageFolderDataset)
    assert data.scheme.classes == ("cat", "dog")
    assert not data.people_in_both_parts
    assert np.bincount(data.samples.labels[data.indices("val")]).tolist() == [7, 14]
    assert data[0][0].shape == (3, *SIZE)


def test_a_data_set_is_created_by_name_with_its_split(faces: Faces) -> None:
    root = faces(people=20)
    data = create_dataset("MaskSplitByProfileDataset", root, val_ratio=0.5, seed=3)
    assert data.split.equals(MaskSplitByProfileDataset(root, val_ratio=0.5, seed=3).split)
    folds = [create_dataset("MaskSplitByProfileDataset", root, fold=(part, 4)) for part in range(1, 5)]
    assert set.union(*(people_of(fold, "val") for fold in folds)) == people_of(data, "val") | people_of(data, "train")
    with pytest.raises(ConfigError, match=r"unknown dataset 'MaskDataset' \(did you mean 'MaskBaseDataset'\?\)"):
        create_dataset("MaskDataset", root)


def test_every_data_set_has_a_reader_that_needs_no_torch() -> None:
    assert module._datasets.keys() == READERS.keys()
    assert all(READERS[name] is data._read for name, data in module._datasets.items())
    program = "import sys; from data.readers import READERS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=CODE).returncode == 0
