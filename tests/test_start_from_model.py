"""A training starts from the model.tar.gz of an earlier job, of other classes, as SageMaker hands it on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import COMMANDS
from config import TrainConfig, TrainPaths
from contract import folder_variables
from model_files import load
from runtime.arguments import parse
from runtime.errors import ModelError
from support.archives import archive_of
from support.drawing import draw_pets
from train import train

Faces = Callable[..., Path]
QUICK = TrainConfig(
    model="TinyModel",
    head="factored",
    statistics="imagenet",
    resize=(32, 24),
    val_ratio=0.34,
    batch_size=16,
    lr=0.01,
    device="cpu",
    threads=1,
)

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Draw six images of each of two other classes."""
    return draw_pets(tmp_path / "pets", 6, (36, 48), seed=1)


@pytest.fixture
def channel(faces: Faces, tmp_path: Path) -> Path:
    """Train a model of masked faces, and leave its model.tar.gz where SageMaker puts the channel; returns /opt/ml."""
    train(faces(), tmp_path / "first", QUICK, output_dir=tmp_path / "output")
    folder = tmp_path / "ml/input/data/pretrained"
    folder.mkdir(parents=True)
    archive_of(tmp_path / "first", folder / "model.tar.gz")
    return tmp_path / "ml"


def test_the_body_is_taken_and_the_head_starts_at_zero(
    channel: Path, pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = folder_variables(COMMANDS["train"], channel)
    words = "--model TinyModel --resize 32 24 --lr 0.000001 --device cpu --threads 1 --batch-size 4 --val-ratio 0.34"
    paths, options = parse("train.py", words.split(), variables, TrainPaths, TrainConfig)
    assert paths.pretrained_dir == channel / "input/data/pretrained"
    capsys.readouterr()
    train(pets, tmp_path / "second", options, output_dir=tmp_path / "output", pretrained_dir=paths.pretrained_dir)
    said = capsys.readouterr().out
    (first, before), (second, after) = load(tmp_path / "first"), load(tmp_path / "second")
    assert after.scheme.classes == ("cat", "dog")
    assert (after.preparation.mean, after.preparation.std) == (before.preparation.mean, before.preparation.std)
    count = len(second.state_dict())
    assert f"pretrained: {count - 2} of {count} tensors from {paths.pretrained_dir}/model.tar.gz" in said
    assert "; zero: fc.weight, fc.bias\n" in said
    theirs, ours = first.state_dict()["network.stem.0.weight"], second.state_dict()["stem.0.weight"]
    assert float((theirs - ours).abs().max()) < 1e-4  # a step of this learning rate changes nothing else


def test_a_model_of_another_architecture_ends_before_the_images_are_read(channel: Path, tmp_path: Path) -> None:
    options = TrainConfig(device="cpu")
    with pytest.raises(ModelError, match="are of a model 'TinyModel', expected 'BaseModel'; give --model TinyModel"):
        train(tmp_path / "none", tmp_path / "second", options, pretrained_dir=channel / "input/data/pretrained")


def test_the_run_tells_what_auto_was(channel: Path, pets: Path, tmp_path: Path) -> None:
    options = TrainConfig(model="TinyModel", resize=(32, 24), val_ratio=0.34, batch_size=4, device="cpu", threads=1)
    given = channel / "input/data/pretrained"
    train(pets, tmp_path / "second", options, output_dir=tmp_path / "runs", pretrained_dir=given)
    assert json.loads((tmp_path / "runs/exp/config.json").read_text())["statistics"] == "imagenet"
