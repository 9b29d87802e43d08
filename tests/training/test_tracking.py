"""The log, metrics.jsonl and TensorBoard hold the results of every epoch."""

import contextlib
import json
from pathlib import Path

import pytest
import torch

from training import tracking
from training.tracking import LateCurves, Tracker, increment_path, progress


def test_run_folders_count_exp_exp2_exp3(tmp_path: Path) -> None:
    for expected in ("exp", "exp2", "exp3"):
        path = increment_path(tmp_path / "exp")
        assert path.name == expected
        path.mkdir()


def test_a_name_with_a_dot_is_never_reused(tmp_path: Path) -> None:
    seen = set()
    for _ in range(4):
        path = increment_path(tmp_path / "exp.v1")
        assert path not in seen
        path.mkdir()
        seen.add(path)


def test_gaps_are_not_filled_and_names_of_others_do_not_count(tmp_path: Path) -> None:
    for name in ("exp", "exp7", "experiment9", "exp8b"):
        (tmp_path / name).mkdir()
    assert increment_path(tmp_path / "exp").name == "exp8"
    assert increment_path(tmp_path / "exp", exist_ok=True).name == "exp"


def test_log_files_get_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [1, 2, 3]
    monkeypatch.setattr(tracking, "on_terminal", lambda: False)
    assert progress(items, 3, "decode") is items
    monkeypatch.setattr(tracking, "on_terminal", lambda: True)
    assert list(progress(items, 3, "decode")) == items


def test_an_epoch_reaches_the_log_the_file_and_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = [{"epoch": 1, "step": 5, "train_loss": 2.5, "val_f1": 0.25, "learning_rate": 0.1}]
    with Tracker(tmp_path) as tracker:
        tracker.step(5, {"loss": 2.0})
        tracker.epoch(history, {"images_per_second": 100.0})
    assert "epoch=1;" in capsys.readouterr().out
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"Train/loss", "Val/f1", "Run/learning_rate", "Run/images_per_second"} <= tags


def test_metrics_jsonl_holds_nothing_that_depends_on_the_clock(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.epoch([{"epoch": 1, "val_f1": 0.25}], {"images_per_second": 100.0})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"epoch": 1, "val_f1": 0.25}


def test_a_point_of_the_curves_is_written_one_step_late_with_its_own_values() -> None:
    written: list[tuple[int, dict[str, float]]] = []
    curves = LateCurves(lambda step, values: written.append((step, dict(values))))
    expected = [(step, {"loss": step / 4, "accuracy": 1 / step, "learning_rate": 0.1 * step}) for step in (1, 2, 4)]
    for step, values in expected:
        curves.write()
        assert written == expected[: len(written)]
        assert step not in dict(written)
        loss, accuracy = torch.tensor((values["loss"], values["accuracy"]), dtype=torch.float64)
        curves.add(step, loss, accuracy, values["learning_rate"])
    curves.write()
    curves.write()
    assert written == expected


def test_the_last_point_of_the_curves_is_written_when_an_epoch_ends_or_a_stop_is_requested() -> None:
    written: list[int] = []
    with contextlib.closing(LateCurves(lambda step, _: written.append(step))) as curves:
        curves.add(7, torch.tensor(1.0), torch.tensor(1.0), 0.1)
        assert not written
    assert written == [7]
