"""An intact checkpoint whose content does not fit the run is damaged: training resumes from the one before it."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from config import TrainConfig
from runtime.errors import CheckpointError
from train import train
from training.checkpoint import _sealed

QUICK = TrainConfig(model="TinyModel", resize=(32, 24), epochs=1, batch_size=32, device="cpu", ema_decay=0.9)

Change = Callable[[dict[str, Any]], None]


def drop(*path: str) -> Change:
    def change(saved: dict[str, Any]) -> None:
        for name in path[:-1]:
            saved = saved[name]
        del saved[path[-1]]

    return change


def put(value: object, *path: Any) -> Change:
    def change(saved: dict[str, Any]) -> None:
        for name in path[:-1]:
            saved = saved[name]
        saved[path[-1]] = value

    return change


CHANGES: dict[str, Change] = {
    "no trainer": drop("trainer"),
    "no state": drop("state"),
    "no best epoch": drop("state", "best_epoch"),
    "no optimizer": drop("trainer", "optimizer"),
    "a run name that leads out": put("../../evil", "state", "run_name"),
    "a best epoch after the last": put(7, "state", "best_epoch"),
    "a step after the last": put(1000, "state", "step"),
    "a history of texts": put(["x"], "state", "history"),
    "best weights of another network": put({"w": torch.zeros(1)}, "state", "best_weights"),
    "a network that is none": put(5, "trainer", "model"),
    "a weight of another shape": put({"w": torch.zeros(1)}, "trainer", "model"),
    "an average of another network": put({"w": torch.zeros(1)}, "trainer", "average"),
    "a buffer of another shape": put(torch.zeros(2, 2), "trainer", "optimizer", "state", 0, "momentum_buffer"),
    "a buffer of no parameter": put({"momentum_buffer": torch.zeros(1)}, "trainer", "optimizer", "state", 9999),
    "no groups of parameters": put([], "trainer", "optimizer", "param_groups"),
    "micro-batches that are a text": put("2", "trainer", "parts", "training"),
    "digests of other images": put(torch.zeros(3, 32, dtype=torch.uint8), "digests"),
    "digests that are floats": put(torch.zeros(84, 32), "digests"),
}


def reseal(path: Path, change: Change, **entries: object) -> None:
    """Change the state of a checkpoint, and make its manifest fit."""
    saved = torch.load(path, weights_only=True)
    change(saved)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    path.write_bytes(buffer.getvalue())
    manifest = json.loads(path.with_suffix(".json").read_text())
    del manifest["manifest_sha256"]
    manifest |= {"size_bytes": len(buffer.getvalue()), "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    path.with_suffix(".json").write_text(_sealed(manifest | entries))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def places(folder: Path) -> dict[str, Any]:
    return {"output_dir": folder / "output", "checkpoint_dir": folder / "checkpoints"}


@pytest.fixture(scope="module")
def finished(module_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.report", lambda *_: None)
        train(module_faces, folder / "model", QUICK, **places(folder))
    return folder


@pytest.mark.parametrize("kind", CHANGES)
def test_the_run_resumes_from_the_checkpoint_before_and_ends_with_the_same_bits(
    finished: Path,
    module_faces: Path,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("train.report", lambda *_: None)
    run = shutil.copytree(finished, tmp_path / "run")
    reseal(max((run / "checkpoints").glob("*.pt")), CHANGES[kind])
    (run / "model" / "model.safetensors").unlink()
    train(module_faces, run / "model", QUICK, **places(run))
    assert "a checkpoint is damaged (" in capsys.readouterr().err
    assert weights(run / "model") == weights(finished / "model")
    assert sorted(run.iterdir()) == sorted(run / path.name for path in finished.iterdir())
    assert list(tmp_path.iterdir()) == [run]


def test_without_another_checkpoint_the_run_ends_with_a_sentence(
    finished: Path, module_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.report", lambda *_: None)
    run = shutil.copytree(finished, tmp_path / "run")
    for path in (run / "checkpoints").glob("*.pt"):
        reseal(path, CHANGES["no trainer"])
    with pytest.raises(CheckpointError, match=r"^every checkpoint is damaged \(it has no part 'trainer'\); pass"):
        train(module_faces, run / "model", QUICK, **places(run))
    for path in (run / "checkpoints").glob("*.pt"):
        reseal(path, lambda saved: None, version="7.0.0")
    with pytest.raises(CheckpointError, match=r"^version 7\.0\.0 made the checkpoint, and version \d"):
        train(module_faces, run / "model", QUICK, **places(run))
    train(module_faces, run / "model", replace(QUICK, resume="never"), **places(run))
