"""Checkpoints are committed whole, damage is noticed, and another run's is refused."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from checkpoint import KEEP, Checkpoints
from errors import CheckpointError


def state(value: float) -> dict[str, object]:
    return {"weights": torch.full((4,), value), "epoch": int(value), "history": [{"loss": value}]}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", {"lr": 0.1, "resize": (128, 96)})


def test_the_newest_state_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    loaded = checkpoints.load()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.full((4,), 2.0))
    assert loaded["history"] == [{"loss": 2}]


def test_an_empty_or_missing_folder_is_a_fresh_start(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None


def test_the_two_newest_are_kept_and_older_ones_go(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 30, 400):
        checkpoints.save(step, state(step))
    assert KEEP == 2
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["step-000000030.json", "step-000000030.pt", "step-000000400.json", "step-000000400.pt"]


@pytest.mark.parametrize("byte", [0, 100, -1])
def test_a_flipped_bit_is_noticed_and_the_one_before_is_used(
    checkpoints: Checkpoints, byte: int, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    data = bytearray(newest.read_bytes())
    data[byte] ^= 1
    newest.write_bytes(data)
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["epoch"] == 1
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"file": "step-000000002.pt"}', '{"sha256": "0"}'])
def test_a_torn_manifest_is_noticed_and_the_one_before_is_used(checkpoints: Checkpoints, content: str) -> None:
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2))
    newest.with_suffix(".json").write_text(content)
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["epoch"] == 1


def test_a_state_without_a_manifest_does_not_exist(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1)).with_suffix(".json").unlink()
    assert checkpoints.load() is None


def test_foreign_files_are_left_alone(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1))
    for name in ("step-000000009.pt.sagemaker-uploading", "step-000000009.json.sagemaker-uploaded", ".step-9.tmp"):
        (checkpoints.folder / name).write_text("not ours")
    for step in (2, 3, 4):
        checkpoints.save(step, state(step))
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["epoch"] == 4
    assert (checkpoints.folder / "step-000000009.pt.sagemaker-uploading").exists()


def test_another_configuration_is_refused_naming_what_differs(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1))
    other = Checkpoints(checkpoints.folder, {"lr": 0.2, "resize": (128, 96)})
    with pytest.raises(CheckpointError, match=r"lr was 0\.1, is 0\.2"):
        other.load()
    assert other.load("force") is not None


def test_never_starts_anew_and_old_checkpoints_do_not_come_back(checkpoints: Checkpoints) -> None:
    checkpoints.save(500, state(5))
    assert checkpoints.load("never") is None
    checkpoints.save(1, state(1))
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["epoch"] == 1


def test_a_manifest_cannot_point_outside_its_folder(checkpoints: Checkpoints, tmp_path: Path) -> None:
    saved = checkpoints.save(1, state(1))
    manifest = saved.with_suffix(".json")
    record = json.loads(manifest.read_text())
    (tmp_path / "elsewhere.pt").write_bytes(saved.read_bytes())
    manifest.write_text(json.dumps(record | {"file": "../elsewhere.pt"}))
    assert checkpoints.load() is None


def test_nothing_but_plain_data_is_unpickled(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, {"trap": Path("anything")})
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.load()
