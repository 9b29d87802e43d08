"""Checkpoints are complete, damage is noticed, and one made with different data or settings is rejected."""

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from config import TrainConfig
from runtime.devices import runtime_versions
from runtime.errors import CheckpointError
from runtime.version import version
from support.strange_files import KINDS, make_strange
from training.checkpoint import KEEP, Checkpoints, State, _sealed

FINGERPRINT = {"lr": 0.1, "resize": (128, 96)}


def state(value: float) -> dict[str, object]:
    return {"weights": torch.full((4,), value), "epoch": int(value), "history": [{"loss": value}]}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", FINGERPRINT)


def commit(checkpoints: Checkpoints, step: int, value: float | None = None, epoch: int = 0) -> Path:
    """Save and wait; returns the file of the state."""
    checkpoints.save(step, epoch, state(step if value is None else value))
    checkpoints.wait()
    return checkpoints.folder / f"step-{step:09}-epoch-{epoch:06}.pt"


def again(checkpoints: Checkpoints, **changes: object) -> Checkpoints:
    """Return the checkpoints as the next process opens them."""
    return Checkpoints(checkpoints.folder, FINGERPRINT | changes)


def loaded_value(checkpoints: Checkpoints) -> int | None:
    loaded = again(checkpoints).load()
    return None if loaded is None else loaded["epoch"]


def test_the_newest_state_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 1)
    commit(checkpoints, 2)
    loaded = again(checkpoints).load()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.full((4,), 2.0))
    assert loaded["history"] == [{"loss": 2}]


def test_an_empty_or_missing_folder_is_a_fresh_start(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None
    checkpoints.folder.mkdir()
    assert checkpoints.load() is None


def test_the_two_newest_are_kept_and_older_ones_go(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 30, 400):
        commit(checkpoints, step)
    assert KEEP == 2
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == [f"step-{step:09}-epoch-000000.{ending}" for step in (30, 400) for ending in ("json", "pt")]


def test_a_damaged_one_does_not_count_among_the_two_that_are_kept(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        damaged = commit(checkpoints, step)
    damaged.write_bytes(b"")
    resumed = again(checkpoints)
    assert resumed.load() is not None
    good = [commit(resumed, 3), commit(resumed, 4)]
    assert sorted(resumed.folder.glob("*.pt")) == good


def test_the_end_of_an_epoch_is_another_checkpoint_than_its_last_step(checkpoints: Checkpoints) -> None:
    before = commit(checkpoints, 10, value=1, epoch=0)
    after = commit(checkpoints, 10, value=2, epoch=1)
    assert before.exists()
    assert loaded_value(checkpoints) == 2
    after.unlink()
    assert loaded_value(checkpoints) == 1


def test_an_intact_checkpoint_is_never_overwritten(checkpoints: Checkpoints) -> None:
    path = commit(checkpoints, 5)
    for writer in (checkpoints, resumed := again(checkpoints)):
        if writer is resumed:
            resumed.load()
        inode = path.stat().st_ino
        commit(writer, 5, value=6)
        assert path.stat().st_ino == inode


def test_the_state_is_that_of_the_moment_it_was_saved(checkpoints: Checkpoints) -> None:
    live = state(1)
    checkpoints.save(1, 0, live)
    live["weights"].fill_(7)  # type: ignore[attr-defined]
    checkpoints.wait()
    loaded = again(checkpoints).load()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.ones(4))


def test_a_small_state_after_a_large_one_is_complete(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, 0, {"weights": torch.ones(100_000)})
    path = commit(checkpoints, 2)
    assert path.stat().st_size < 10_000
    loaded = again(checkpoints).load()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.full((4,), 2.0))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_checkpoint_is_due_by_steps(checkpoints: Checkpoints, step: int) -> None:
    by_steps = Checkpoints(checkpoints.folder, {}, every_steps=7)
    assert by_steps.is_due(step) == (step % 7 == 0)
    assert not Checkpoints(checkpoints.folder, {}).is_due(step)


def test_a_checkpoint_is_due_by_seconds(checkpoints: Checkpoints) -> None:
    assert Checkpoints(checkpoints.folder, {}, every_seconds=-1).is_due(1)
    assert not Checkpoints(checkpoints.folder, {}, every_seconds=1e6).is_due(1)


@pytest.mark.parametrize(
    "look", [Checkpoints.wait, lambda held: held.save(2, 0, {}), lambda held: look_until_due(held)]
)
def test_an_error_while_writing_is_raised_in_training(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, look: Callable[[Checkpoints], object]
) -> None:
    commit(checkpoints, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        checkpoints.save(2, 0, state(2))
        with pytest.raises(OSError, match="No space left"):
            look(checkpoints)
    assert loaded_value(checkpoints) == 1


def look_until_due(checkpoints: Checkpoints) -> None:
    while True:
        checkpoints.is_due(1)


def test_after_a_checkpoint_by_the_clock_the_next_one_is_not_due_at_once(checkpoints: Checkpoints) -> None:
    timed = Checkpoints(checkpoints.folder, FINGERPRINT, every_seconds=60)
    assert not timed.is_due(1)
    timed._saved_at -= 61
    assert timed.is_due(1)
    commit(timed, 1)
    assert not timed.is_due(2)


def test_the_cost_of_a_checkpoint_is_logged(checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]) -> None:
    commit(checkpoints, 3)
    line = capsys.readouterr().out
    seconds = r"\d+\.\d{3}"
    said = rf"checkpoint: step=3; megabytes=0\.0; pause_seconds={seconds}; write_seconds={seconds};\n"
    assert re.fullmatch(said, line)


# damage


def damage(path: Path, draw: random.Random) -> str:
    """Flip one bit of a file, or cut it short."""
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    if cut := draw.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"{path.name} {'cut' if cut else 'flipped'} at {place}"


def test_a_thousand_flipped_bits_and_cut_files_are_all_noticed(
    checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(checkpoints, 1)
    newest = commit(checkpoints, 2)
    draw = random.Random(0)
    for _ in range(1000):
        victim = draw.choice([newest, newest.with_suffix(".json")])
        whole = victim.read_bytes()
        what = damage(victim, draw)
        assert loaded_value(checkpoints) == 1, what
        assert "warning: a checkpoint" in capsys.readouterr().err, what
        victim.write_bytes(whole)
    assert loaded_value(checkpoints) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[1, 2]", '{"manifest_sha256": "0"}', '{"sha256": "0"}'])
def test_a_torn_manifest_is_noticed_and_the_one_before_is_used(checkpoints: Checkpoints, content: str) -> None:
    commit(checkpoints, 1)
    commit(checkpoints, 2).with_suffix(".json").write_text(content)
    assert loaded_value(checkpoints) == 1


def test_a_state_without_a_manifest_does_not_exist_and_is_removed(checkpoints: Checkpoints) -> None:
    path = commit(checkpoints, 1)
    path.with_suffix(".json").unlink()
    assert loaded_value(checkpoints) is None
    assert not path.exists()


def test_half_written_files_of_a_killed_run_are_removed_at_the_next_start(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 1)
    for name in (".step-000000002-epoch-000000.pt.k3j2_a9z.tmp", ".step-000000002-epoch-000000.json.xy7abcde.tmp"):
        (checkpoints.folder / name).write_text("half")
    assert loaded_value(checkpoints) == 1
    assert len(list(checkpoints.folder.iterdir())) == 2


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_other_files_in_the_folder_are_ignored(checkpoints: Checkpoints, resume: str) -> None:
    commit(checkpoints, 1)
    names = [
        *("step-000000009-epoch-000000.pt.sagemaker-uploading", "step-000000009-epoch-000000.json.sagemaker-uploaded"),
        *("notes.txt", ".hidden.tmp", "step-000000001-epoch-000000.json.sagemaker-uploading"),
        *(
            "step-1.json",
            "step-1.pt",
            "step-1-epoch-1.json",
            "step-000000000-epoch-000000-best.json",
            "step-by-step.pt",
        ),
        *("step-000000003-epoch-000000 (copy).pt", "old-step-000000000-epoch-000000.pt", "step-000000009-epoch-.json"),
        *(".step-000000009-epoch-000000.pt.tmp", ".step-000000009-epoch-000000.pt.mine.tmp", ".step-9.pt.k3j2_a9z.tmp"),
    ]
    for name in names:
        (checkpoints.folder / name).write_text("other")
    resumed = again(checkpoints)
    assert (resumed.load(resume) is None) == (resume == "never")
    for step in (2, 3, 4):
        commit(resumed, step)
    assert loaded_value(resumed) == 4
    assert [name for name in names if not (checkpoints.folder / name).exists()] == []


# another run


def test_different_settings_are_rejected_and_the_differences_are_listed(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 1)
    other = again(checkpoints, lr=0.2)
    with pytest.raises(CheckpointError, match=r"lr was 0\.1, is 0\.2"):
        other.load()
    assert other.load("force") is not None


def test_a_checkpoint_from_before_the_first_step_is_never_rejected(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 0)
    assert again(checkpoints).load() is not None
    other = again(checkpoints, lr=0.2)
    assert other.load() is None
    assert list(other.folder.iterdir()) == []


def test_different_versions_or_processors_are_a_warning(
    checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    here = runtime_versions(torch.device("cpu"))
    there = Checkpoints(checkpoints.folder, FINGERPRINT, here | {"torch": "2.9.0", "threads": 96})
    commit(there, 1)
    for circumstances, said in ((here | {"torch": "2.9.0", "threads": 96}, False), (here, True)):
        loaded: State | None = Checkpoints(checkpoints.folder, FINGERPRINT, circumstances).load()
        assert loaded is not None
        warning = capsys.readouterr().err
        assert ("the bits may differ" in warning) == said
        assert ("torch was '2.9.0'" in warning) == said


def test_never_starts_from_scratch_and_removes_old_checkpoints(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 500)
    assert again(checkpoints).load("never") is None
    commit(checkpoints, 1)
    assert loaded_value(checkpoints) == 1


def test_other_classes_are_rejected_even_by_force(checkpoints: Checkpoints) -> None:
    trained = again(checkpoints, classes=["cat", "dog"])
    commit(trained, 1)
    for resume in ("auto", "force"):
        with pytest.raises(CheckpointError, match=r"other classes \(missing: 'dog'; new: 'ape'\).*--resume never"):
            again(checkpoints, classes=["ape", "cat"]).load(resume)
    assert again(checkpoints, classes=["cat", "dog"], lr=0.2).load("force") is not None


def test_a_checkpoint_of_other_classes_from_before_the_first_step_is_dropped(checkpoints: Checkpoints) -> None:
    commit(again(checkpoints, classes=["cat", "dog"]), 0)
    assert again(checkpoints, classes=["ape", "cat"]).load("force") is None


@pytest.mark.parametrize("deleted_at", ["fsync", "replace"])
def test_a_folder_that_something_deletes_is_named(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, deleted_at: str
) -> None:
    owner: Any = os if deleted_at == "fsync" else Path
    original = getattr(owner, deleted_at)

    def delete_first(*arguments: Any) -> Any:
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
        return original(*arguments)

    monkeypatch.setattr(owner, deleted_at, delete_first)
    with pytest.raises(CheckpointError, match="the checkpoint folder was deleted while a checkpoint was written"):
        commit(checkpoints, 1)


def test_an_option_that_a_checkpoint_does_not_know_counts_as_its_default(checkpoints: Checkpoints) -> None:
    commit(checkpoints, 1)
    default = TrainConfig().clip_norm
    assert again(checkpoints, clip_norm=default).load() is not None
    with pytest.raises(CheckpointError, match=r"\(clip_norm was 0\.0, is 1\.0\)"):
        again(checkpoints, clip_norm=1.0).load()


@pytest.mark.parametrize("name", ["step", "fingerprint", "runtime_versions"])
def test_a_manifest_that_lacks_an_entry_is_rejected_in_a_sentence(checkpoints: Checkpoints, name: str) -> None:
    path = commit(checkpoints, 1).with_suffix(".json")
    manifest = json.loads(path.read_text())
    del manifest[name], manifest["manifest_sha256"]
    path.write_text(_sealed(manifest))
    with pytest.raises(CheckpointError, match=r"^every checkpoint is damaged \(it has no part '\w+'\); pass --resume"):
        again(checkpoints).load()


def test_a_checkpoint_that_does_not_fit_is_damaged_and_the_one_before_is_used(
    checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(checkpoints, 1)
    commit(checkpoints, 2)

    def restore(state: State) -> None:
        if state["epoch"] == 2:
            raise IndexError("index 7 is out of range")

    loaded = again(checkpoints).load("auto", restore)
    assert loaded is not None
    assert loaded["epoch"] == 1
    assert "a checkpoint is damaged (index 7 is out of range); trying the one before" in capsys.readouterr().err


@pytest.mark.parametrize("made_by", ["9.8.7", "0.1.0"])
def test_a_checkpoint_of_another_version_that_cannot_be_read_names_both(checkpoints: Checkpoints, made_by: str) -> None:
    path = commit(checkpoints, 1).with_suffix(".json")
    manifest = json.loads(path.read_text())
    del manifest["runtime_versions"], manifest["manifest_sha256"]
    manifest |= {"version": made_by}
    path.write_text(_sealed(manifest))
    with pytest.raises(CheckpointError, match=f"^version {made_by} made the checkpoint, and version {version()} "):
        again(checkpoints).load()
    path.write_text(_sealed(manifest | {"runtime_versions": {}}))
    assert again(checkpoints).load() is not None, "one that fits is used, whatever its version"


@pytest.mark.parametrize("suffix", [".json", ".pt"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_is_no_regular_file_or_too_large_is_named(
    checkpoints: Checkpoints, suffix: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(checkpoints, 1)
    make_strange(commit(checkpoints, 2).with_suffix(suffix), kind)
    assert loaded_value(checkpoints) == 1
    assert "a checkpoint cannot be read" in capsys.readouterr().err


def test_nothing_but_plain_data_is_unpickled(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, 0, {"trap": Path("anything")})
    checkpoints.wait()
    with pytest.raises(CheckpointError, match=r"Weights only load failed"):
        again(checkpoints).load()


def test_the_manifest_is_readable_by_people(checkpoints: Checkpoints) -> None:
    path = commit(checkpoints, 12, epoch=3)
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert (manifest["step"], manifest["epoch"], manifest["size_bytes"]) == (12, 3, path.stat().st_size)
    assert manifest["fingerprint"] == {"lr": 0.1, "resize": [128, 96]}
