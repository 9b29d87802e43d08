"""What version 0.1.0 left behind works: its model is loaded, served and infers, its checkpoint and store are resumed.

tests/support/last_release/README.md says how the files were made.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import pytest
import torch
from numpy.typing import NDArray
from PIL import features

from config import TrainConfig
from data import image_store
from data.decode_pool import DecodePool
from data.images import ORIGINAL_MEAN, Preparation
from inference import inference
from model_files import load
from options.inference import InferenceConfig
from runtime.arguments import parse
from runtime.errors import CheckpointError
from server.settings import ServeConfig
from support.drawing import draw_eval, draw_faces
from support.serving import InProcess
from train import train

RELEASE = Path(__file__).parent / "support" / "last_release"
FLAGS = (
    "--epochs 3 --batch-size 16 --resize 32 24 --val-ratio 0.34 --lr 0.01 --accumulate 2 --precision fp32 "
    "--device cpu --threads 1"
)
DECODERS = {
    "PIL": "13.0.0",
    "libjpeg_turbo": "3.2.0",
    "zlib": "1.2.13",
    "webp": "1.6.0",
}  # that the store cache was made with


def options(flags: str = FLAGS) -> TrainConfig:
    (config,) = parse("train.py", flags.split(), {}, TrainConfig)
    assert isinstance(config, TrainConfig)
    return config


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


def probabilities(table: pd.DataFrame) -> NDArray[np.float64]:
    return table.filter(like="probability_").to_numpy()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each image that is decoded."""
    paths: list[Path] = []

    class Spy(DecodePool):
        def __init__(self, names: Sequence[Path], *arguments: Any, **options: Any) -> None:
            super().__init__(names, *arguments, **options)
            paths.extend(names)

    monkeypatch.setattr(image_store, "DecodePool", Spy)
    return paths


@pytest.fixture
def eval_dir(tmp_path: Path) -> Path:
    return draw_eval(tmp_path / "eval", {f"{label:04}.ppm": label for label in range(18)})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Return a copy of the checkpoint folder: resuming writes into it."""
    return Path(shutil.copytree(RELEASE / "checkpoints", tmp_path / "checkpoints"))


def test_the_model_is_loaded_with_its_settings_under_the_current_names() -> None:
    model, description = load(RELEASE / "model")
    assert not model.training
    assert description.preparation == Preparation((32, 24), None, ORIGINAL_MEAN, fit="stretch")
    assert description.metrics["f1"] == 0.0
    assert (description.settings["parts"], description.settings["statistics"]) == (2, "original")
    assert not {"accumulate"} & description.settings.keys()
    assert (description.calibration, description.temperature, description.unsure_thresholds) == (None, 1.0, None)


def test_inference_finds_the_same_classes_and_probabilities(eval_dir: Path, tmp_path: Path) -> None:
    config = InferenceConfig(save_probabilities=True, status=True, device="cpu", threads=1)
    found = pd.read_csv(inference(eval_dir, RELEASE / "model", tmp_path / "output", config))
    expected = pd.read_csv(RELEASE / "output.csv")
    assert list(found.columns) == list(expected.columns)
    for column in ("ImageID", "ans", "status"):
        assert list(found[column]) == list(expected[column])
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-5)


def test_the_server_finds_the_same_classes_and_probabilities(eval_dir: Path) -> None:
    expected = pd.read_csv(RELEASE / "output.csv")
    with InProcess(ServeConfig(model_dir=RELEASE / "model", device="cpu", threads=1)) as server:
        server.until_ready()
        for number, name in enumerate(expected["ImageID"]):
            body = (eval_dir / "images" / str(name)).read_bytes()
            reply = server.post(body, accept="application/json; verbose").json()
            assert reply["prediction"] == expected["ans"][number]
            np.testing.assert_allclose(reply["probabilities"], probabilities(expected)[number], atol=1e-5)


def choose_one_part(folder: Path) -> None:
    """Change a checkpoint to that of a run without --accumulate, which cuts its batches since its memory ran out."""
    (path,) = folder.glob("*.json")
    manifest = json.loads(path.read_text())
    manifest["fingerprint"]["accumulate"] = 1
    del manifest["manifest_sha256"]
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    path.write_text(json.dumps({**manifest, "manifest_sha256": seal}, indent=2) + "\n")


@pytest.mark.parametrize("parts", ["chosen", "grown"])
@pytest.mark.usefixtures("without_report")
def test_the_checkpoint_is_resumed_with_a_warning_that_parts_are_added_up_in_another_order(
    parts: str, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, flags = draw_faces(tmp_path / "train", 12, ending=".ppm"), FLAGS
    if parts == "grown":
        choose_one_part(checkpoints)
        flags = FLAGS.replace("--accumulate 2 ", "")
    torch.set_num_threads(1)
    train(data, tmp_path / "model", options(flags), output_dir=tmp_path / "output", checkpoint_dir=checkpoints)
    said = capsys.readouterr()
    assert "resumed at epoch 2, after 5 steps" in said.out
    assert "the bits may differ" in said.err, (
        "0.1.0 added up parts in another order, and batch norm took a step in each"
    )
    assert "sum format was None, is 1" in said.err
    found, expected = rows(tmp_path / "output/exp/metrics.jsonl"), rows(RELEASE / "metrics.jsonl")
    assert [(row["epoch"], row["step"]) for row in found] == [(row["epoch"], row["step"]) for row in expected]
    assert found[0] == expected[0]
    assert found[0].keys() == found[2].keys()
    assert found[2]["train_loss"] == pytest.approx(expected[2]["train_loss"], rel=0.1)


@pytest.mark.usefixtures("without_report")
def test_the_checkpoint_of_other_settings_is_rejected_with_the_current_names(checkpoints: Path, tmp_path: Path) -> None:
    data = draw_faces(tmp_path / "train", 12, ending=".ppm")
    other = options(FLAGS.replace("--accumulate 2", "--parts 4"))
    with pytest.raises(CheckpointError, match=r"\(parts was 2, is 4\)"):
        train(data, tmp_path / "model", other, output_dir=tmp_path / "output", checkpoint_dir=checkpoints)
    other = options(f"{FLAGS} --fit pad")
    with pytest.raises(CheckpointError, match=r"\(fit was 'stretch', is 'pad'\)"):
        train(data, tmp_path / "model", other, output_dir=tmp_path / "output", checkpoint_dir=checkpoints)


@pytest.mark.usefixtures("without_report")
def test_the_store_cache_is_used_or_silently_decoded_again(
    decoded: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = draw_faces(tmp_path / "train", 12, ending=".ppm")
    store = Path(shutil.copytree(RELEASE / "store", tmp_path / "store"))
    torch.set_num_threads(1)
    train(data, tmp_path / "model", options(), output_dir=tmp_path / "output", store_dir=store)
    here = {name: PIL.__version__ if name == "PIL" else features.version(name) for name in DECODERS}
    assert len(decoded) == (0 if here == DECODERS else 84)
    assert "warning" not in capsys.readouterr().err
    train(data, tmp_path / "model", options(), output_dir=tmp_path / "without")
    assert rows(tmp_path / "output/exp/metrics.jsonl") == rows(tmp_path / "without/exp/metrics.jsonl")
