"""The heat of an image is that of the model of its fold, in the order of the images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from augmentation import BaseAugmentation
from data.images import Preparation
from description import Description
from labels import LabelScheme
from model import create_model
from model_files import load, publish
from report.fold_heat import FoldCam
from report.heat import NoHeatMap
from report.layer_cam import LayerCam

CPU, PETS = torch.device("cpu"), LabelScheme("pets", ("cat", "dog"))
PREPARATION = Preparation((128, 96), None, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def publish_fold(folder: Path, seed: int, name: str = "TinyModel") -> Path:
    torch.manual_seed(seed)
    network = create_model(name, PETS, size=PREPARATION.size)
    publish(folder, network.state_dict(), Description(name, "joint", PETS, PREPARATION))
    return folder


def test_the_heat_of_an_image_is_that_of_the_model_of_its_fold(tmp_path: Path) -> None:
    models = [publish_fold(tmp_path / str(seed), seed) for seed in (1, 2)]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 128, 96, 3), dtype=np.uint8)
    classes, indices, folds = np.array((0, 1, 1, 0, 1)), [7, 3, 0, 5, 9], np.array((1, 2, 2, 1, 2, 1, 2, 2, 1, 1))
    found = FoldCam(models, folds, CPU)(indices, pixels, classes)
    assert (found.layer, found.grid) == ("blocks.2", (8, 6))
    for place, index in enumerate(indices):
        network, _ = load(models[folds[index] - 1])
        cam = LayerCam(network, BaseAugmentation.of(PREPARATION).normalize, CPU)
        one = cam(pixels[place : place + 1], classes[place : place + 1])
        np.testing.assert_allclose(found.maps[place], one.maps[0], rtol=1e-3, atol=1e-5)


def test_models_with_grids_of_different_sizes_have_no_heat_maps(tmp_path: Path) -> None:
    models = [publish_fold(tmp_path / "tiny", 1), publish_fold(tmp_path / "base", 2, "BaseModel")]
    with pytest.raises(NoHeatMap, match="the models of the folds have grids of different sizes"):
        FoldCam(models, np.array((1, 2)), CPU)([0, 1], np.full((2, 128, 96, 3), 9, np.uint8), np.array((0, 1)))
