"""A run resumes only with images of the same bytes and classes of the same names; nothing is read earlier for that."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from config import TrainConfig
from data.digests import as_array, file_digests
from data.images import Pixels
from model_files import load
from runtime.errors import CheckpointError
from runtime.process import StopRequest
from support.drawing import draw_pets
from support.held_back import hold_back
from train import train
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("without_report")
QUICK = TrainConfig(
    dataset="ImageFolderDataset", model="TinyModel", epochs=2, batch_size=4, resize=(32, 24), val_ratio=0.25
)
Train = Callable[..., dict[str, float]]


class StopAfter(StopRequest):
    """A stop request that comes after so many steps."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def listen(self) -> None:
        """Leave the signals of the tests alone."""

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Draw two class folders of BMP files: all have one size, and here one time."""
    root = draw_pets(tmp_path / "pets", 10, (20, 20), ".bmp")
    for path in root.rglob("*.bmp"):
        os.utime(path, (1, 1))
    return root


def write(path: Path, pixels: Pixels) -> None:
    Image.fromarray(pixels).save(path)
    os.utime(path, (1, 1))


def invert(path: Path) -> None:
    write(path, 255 - np.asarray(Image.open(path)))


@pytest.fixture
def run(pets: Path, tmp_path: Path) -> Train:
    """Return a function that trains on the pets, always with the same folders."""

    def start(config: TrainConfig = QUICK, **options: Any) -> dict[str, float]:
        places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
        return train(pets, tmp_path / "model", config, **places, **options)

    return start


def saved_digests(tmp_path: Path) -> Any:
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    return torch.load(newest, weights_only=True)["digests"].numpy()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("with_cache", [False, True])
def test_a_finished_run_is_not_published_again_for_other_images_of_the_same_size_and_time(
    run: Train, pets: Path, tmp_path: Path, with_cache: bool
) -> None:
    options = {"store_dir": tmp_path / "store"} if with_cache else {}
    run(**options)
    before = contents(tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "model")
    victim = pets / "dog" / "3.bmp"
    invert(victim)
    with pytest.raises(CheckpointError, match=f"an image has changed since the checkpoint was made.*: {victim}"):
        run(**options)
    assert not (tmp_path / "model").exists()
    assert contents(tmp_path / "checkpoints") == before
    invert(victim)
    run(**options)
    assert load(tmp_path / "model")


@pytest.mark.parametrize("looks", [1, 5, 6])
@pytest.mark.parametrize("with_cache", [False, True])
def test_a_stopped_run_does_not_mix_two_versions_of_an_image(
    run: Train, pets: Path, tmp_path: Path, looks: int, with_cache: bool
) -> None:
    config = replace(QUICK, checkpoint_steps=1)
    options = {"store_dir": tmp_path / "store"} if with_cache else {}
    run(config, stop=StopAfter(looks), **options)
    known = saved_digests(tmp_path)
    expected = as_array(list(file_digests(sorted(pets.rglob("*.bmp")))))
    is_known = known.any(1)
    assert is_known.sum() >= 4, "the images of a batch, at least"
    assert np.array_equal(known[is_known], expected[is_known])
    before = contents(tmp_path / "model")
    for path in pets.rglob("*.bmp"):
        invert(path)
    with pytest.raises(CheckpointError, match="changed since the checkpoint was made"):
        run(config, **options)
    assert contents(tmp_path / "model") == before
    newest = saved_digests(tmp_path)
    assert np.array_equal(newest[is_known], expected[is_known]), "no checkpoint has the digest of a changed image"


def test_other_images_are_accepted_by_force_and_then_expected(run: Train, pets: Path, tmp_path: Path) -> None:
    run(stop=StopAfter(5))
    for path in pets.rglob("*.bmp"):
        invert(path)
    run(replace(QUICK, resume="force"))
    assert np.array_equal(saved_digests(tmp_path), as_array(list(file_digests(sorted(pets.rglob("*.bmp"))))))
    run()


def test_images_may_be_corrected_before_the_first_step(run: Train, pets: Path) -> None:
    run(stop=StopAfter(0))
    for path in pets.rglob("*.bmp"):
        invert(path)
    run()


def test_a_checkpoint_without_digests_compares_paths_labels_and_sizes(
    run: Train, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def save_as_0_1_0(state: dict[str, Any], *arguments: Any) -> None:
        save({name: value for name, value in state.items() if name != "digests"}, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_as_0_1_0)
        run()
    invert(pets / "dog" / "3.bmp")
    run()
    (pets / "dog" / "3.bmp").write_bytes(b"another size")
    with pytest.raises(CheckpointError, match="data was"):
        run()


def test_a_resumed_run_takes_its_first_step_before_all_images_are_read(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(stop=StopAfter(1))
    table = pd.read_csv(tmp_path / "output/exp/split.csv")
    later, gate = list(table["path"][table["split"] == "val"]), tmp_path / "first step"
    step = Trainer.step

    def spy_on_step(trainer: Trainer, *arguments: Any) -> Any:
        gate.touch()
        return step(trainer, *arguments)

    hold_back(later, gate, monkeypatch)
    monkeypatch.setattr(Trainer, "step", spy_on_step)
    run(replace(QUICK, threads=len(later) + 1))
    assert "resumed at epoch 1, after 1 steps" in capsys.readouterr().out
    assert gate.with_suffix(".log").read_text().count("\n") == 20, "each image is decoded once"


@pytest.mark.parametrize("resume", ["auto", "force"])
def test_old_weights_are_never_published_under_new_class_names(
    run: Train, pets: Path, tmp_path: Path, resume: str
) -> None:
    run()
    before = contents(tmp_path / "model")
    (pets / "dog").rename(pets / "ape")
    with pytest.raises(CheckpointError, match=r"other classes \(missing: 'dog'; new: 'ape'\)"):
        run(replace(QUICK, epochs=3, resume=resume))
    assert contents(tmp_path / "model") == before
    assert json.loads(before["model.json"])["scheme"]["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("resume", ["auto", "force"])
def test_another_number_of_classes_is_named_and_not_called_another_network(run: Train, pets: Path, resume: str) -> None:
    run()
    shutil.copytree(pets / "cat", pets / "owl")
    with pytest.raises(CheckpointError, match=r"other classes \(new: 'owl'\)"):
        run(replace(QUICK, resume=resume))
