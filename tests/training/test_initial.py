"""A run keeps what it started from: its weights by their sha256, and the mean and std that belong to them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from config import TrainConfig
from data.images import IMAGENET_MEAN, ORIGINAL_MEAN
from model import TinyModel
from runtime.errors import CheckpointError, ConfigError
from runtime.process import StopRequest
from support.pretrained_weights import imagenet
from support.trainers import PLAIN
from train import train
from training.fingerprint import INITIAL_WEIGHTS, STATISTICS
from training.initial import choose_start
from training.start import Kept
from training.workers import Workers
from weights_cache import Notes, Statistics, notes_path

Faces = Callable[..., Path]
SMALL = replace(PLAIN, epochs=2, device="cpu", threads=1, checkpoint_steps=1)
OWN = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))

pytestmark = pytest.mark.usefixtures("without_report")


def write_weights(folder: Path, seed: int = 1, statistics: Statistics | None = OWN) -> Path:
    """Write weights of a TinyModel into a folder of their own, with notes that have their mean and std."""
    torch.manual_seed(seed)
    folder.mkdir()
    path = folder / "weights.pth"
    torch.save(TinyModel(18).state_dict(), path)
    if statistics:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        notes_path(path).write_text(Notes("TinyModel", "https://example.org", "MIT", sha256, statistics).to_json())
    return folder


def run(data: Path, tmp_path: Path, options: TrainConfig = SMALL, **given: Any) -> dict[str, Any]:
    """Train in folders of the test's own, and return model.json."""
    folders = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    train(data, tmp_path / "model", options, **folders | given)
    return dict(json.loads((tmp_path / "model/model.json").read_text()))


class StopAfter(StopRequest):
    """A request to stop that comes after so many looks at it, which the run takes between two steps."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.looks -= 1
        return self.looks < 0

    def listen(self) -> None:
        """Leave the signals alone."""


def test_without_weights_auto_is_the_original(tmp_path: Path) -> None:
    args, start = choose_start(SMALL, Workers())
    assert args == replace(SMALL, statistics="original")
    assert start.statistics.mean == ORIGINAL_MEAN
    assert start.fingerprint == {INITIAL_WEIGHTS: None}


def test_auto_follows_the_weights_and_any_other_choice_does_not(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "weights")
    args, start = choose_start(SMALL, Workers(), folder)
    assert (args.statistics, start.statistics) == ("auto", OWN)
    assert start.fingerprint[STATISTICS] == {"mean": OWN.mean, "std": OWN.std}
    args, start = choose_start(replace(SMALL, statistics="imagenet"), Workers(), folder)
    assert (args.statistics, start.statistics.mean) == ("imagenet", IMAGENET_MEAN)
    assert STATISTICS not in start.fingerprint


def test_a_mean_and_std_with_a_name_get_the_name(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    torch.save(imagenet(), tmp_path / "weights/resnet18.pth")
    args, _ = choose_start(replace(SMALL, model="resnet18"), Workers(), tmp_path / "weights")
    assert args.statistics == "imagenet"


def test_the_model_has_the_mean_and_std_of_the_weights(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(faces(), tmp_path, pretrained_dir=write_weights(tmp_path / "weights"))["preparation"]
    assert (tuple(found["mean"]), tuple(found["std"])) == (OWN.mean, OWN.std)
    said, count = capsys.readouterr().out, len(TinyModel(18).state_dict())
    assert "statistics: mean 0.1, 0.2, 0.3; std 0.4, 0.5, 0.6\n" in said
    assert f"pretrained: {count} of {count} tensors from {tmp_path / 'weights'}\n" in said


@pytest.mark.parametrize("given", ["the same", "the same elsewhere", "none"])
def test_a_resumed_run_ends_with_the_same_bits_whether_the_weights_are_given_again_or_not(
    faces: Faces, tmp_path: Path, given: str
) -> None:
    data, weights = faces(), write_weights(tmp_path / "weights")
    (tmp_path / "whole").mkdir()
    whole = run(data, tmp_path / "whole", pretrained_dir=weights)
    run(data, tmp_path, pretrained_dir=weights, stop=StopAfter(3))
    options = SMALL
    if given == "the same elsewhere":
        moved = Path(shutil.copytree(weights, tmp_path / "moved"))
        options = replace(SMALL, pretrained=str(moved / "weights.pth"))
    found = run(data, tmp_path, options, pretrained_dir=weights if given == "the same" else None)
    assert found["sha256"] == whole["sha256"]
    assert found["preparation"] == whole["preparation"]


def test_other_weights_or_none_are_other_settings(faces: Faces, tmp_path: Path) -> None:
    data, weights = faces(), write_weights(tmp_path / "weights")
    run(data, tmp_path, pretrained_dir=weights, stop=StopAfter(3))
    with pytest.raises(
        CheckpointError, match=r"different data or settings \(initial weights was '\w{64}', is '\w{64}'\)"
    ):
        run(data, tmp_path, pretrained_dir=write_weights(tmp_path / "others", 2))
    with pytest.raises(CheckpointError, match=r"initial weights was '\w{64}', is None"):
        run(data, tmp_path, replace(SMALL, pretrained="none"))


def test_a_run_from_scratch_does_not_take_up_weights_half_way(faces: Faces, tmp_path: Path) -> None:
    data = faces()
    run(data, tmp_path, stop=StopAfter(3))
    with pytest.raises(CheckpointError, match=r"initial weights was None, is '\w{64}'"):
        run(data, tmp_path, pretrained_dir=write_weights(tmp_path / "weights"))
    assert tuple(run(data, tmp_path)["preparation"]["mean"]) == ORIGINAL_MEAN


def test_a_run_whose_checkpoints_are_all_damaged_needs_its_weights_again(faces: Faces, tmp_path: Path) -> None:
    data, weights = faces(), write_weights(tmp_path / "weights")
    run(data, tmp_path, pretrained_dir=weights, stop=StopAfter(3))
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="no checkpoint can be used, and the weights that the run started from"):
        run(data, tmp_path)
    run(data, tmp_path, pretrained_dir=weights)


@pytest.mark.parametrize("changes", [{}, {"freeze_epochs": 1}, {"freeze_epochs": 5, "freeze": "2"}])
def test_random_weights_are_not_frozen_for_a_whole_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    frozen = replace(SMALL, **{"epochs": 1, "freeze": "all", **changes})
    with pytest.raises(
        ConfigError, match=rf"^--freeze: {frozen.freeze} keeps random weights for the whole run, as ther"
    ):
        choose_start(frozen, Workers())
    choose_start(frozen, Workers(), write_weights(tmp_path / "weights"))
    kept = Kept(fingerprint={INITIAL_WEIGHTS: "abc", "statistics": "original"})
    _, start = choose_start(frozen, Workers(), kept=kept)
    assert start.sha256 == "abc", "a run that is resumed does not need the file"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"freeze": "all", "freeze_epochs": 1, "recipe": "finetune"}, "warning: --freeze-epochs: 1 keeps random"),
        ({"recipe": "finetune"}, "warning: --recipe: finetune is for weights to start from, and there are none; give"),
        ({"freeze": "0"}, ""),
        ({"recipe": "scratch"}, ""),
    ],
)
def test_options_for_weights_that_are_not_there_are_one_warning(
    tmp_path: Path, changes: dict[str, Any], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(SMALL, **{"epochs": 2, **changes})
    choose_start(options, Workers())
    said = capsys.readouterr().err
    assert said.startswith(warning)
    assert said.count("\n") == bool(warning)
    choose_start(options, Workers(), write_weights(tmp_path / "weights"))
    assert capsys.readouterr().err == ""
