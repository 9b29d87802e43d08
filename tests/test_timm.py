"""A network of timm goes the whole way: trained, stored under its name, loaded, used for inference and served."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from config import TrainConfig
from inference import inference
from model_files import load
from networks.timm_networks import TimmModel
from options.inference import InferenceConfig
from server.settings import ServeConfig
from support.serving import InProcess
from train import train

Faces = Callable[..., Path]
EvalFolder = Callable[..., tuple[Path, list[int]]]
NAME = "timm/test_efficientnet.r160_in1k"


@pytest.mark.usefixtures("without_report")
def test_a_network_of_timm_is_trained_loaded_used_and_served_under_its_name(
    faces: Faces, eval_folder: EvalFolder, tmp_path: Path
) -> None:
    options = TrainConfig(model=NAME, resize=(32, 24), val_ratio=0.34, device="cpu", threads=1, batch_size=16)
    train(faces(), tmp_path / "model", options, output_dir=tmp_path / "output")
    assert json.loads((tmp_path / "model/model.json").read_text())["architecture"] == NAME
    model, description = load(tmp_path / "model")
    assert isinstance(model, TimmModel)
    assert description.architecture == NAME
    folder, _ = eval_folder(3)
    config = InferenceConfig(device="cpu", threads=1)
    found = pd.read_csv(inference(folder, tmp_path / "model", tmp_path / "labels", config))
    with InProcess(ServeConfig(model_dir=tmp_path / "model", device="cpu", threads=1)) as server:
        server.until_ready()
        for name, label in zip(found["ImageID"], found["ans"], strict=True):
            assert server.post((folder / "images" / name).read_bytes()).json()["prediction"] == label
