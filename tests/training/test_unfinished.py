"""A run without a checkpoint folder says that an earlier one is not finished, and how to resume that one."""

import os
from pathlib import Path

import pytest
import torch

from training.checkpoint import IN_RUN_FOLDER, Checkpoints
from training.unfinished import find_unfinished, mention_unfinished


def leave(run: Path, *, step: int = 1, seconds: int = 0, is_finished: bool = False) -> Path:
    """Leave a run folder with a checkpoint of that age; return the folder of its checkpoints."""
    checkpoints = Checkpoints(run / IN_RUN_FOLDER, {"parts": 1})
    checkpoints.save(step, 0, {"weights": torch.zeros(1)})
    checkpoints.wait()
    os.utime(checkpoints.folder, (seconds, seconds))
    if is_finished:
        (run / "report").mkdir()
        (run / "report" / "report.html").write_text("page")
    return checkpoints.folder


def test_the_newest_unfinished_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = leave(tmp_path / "exp", seconds=3)
    older = leave(tmp_path / "exp2", seconds=2)
    leave(tmp_path / "exp3", seconds=4, is_finished=True)
    assert find_unfinished(tmp_path / "exp") == [older, newest]
    capsys.readouterr()
    mention_unfinished(tmp_path / "exp")
    assert capsys.readouterr().err == (
        "warning: this run starts from scratch, and an earlier one is not finished; to resume that one, add "
        f"--checkpoint-dir {newest}\n"
    )


def test_a_run_of_another_name_or_before_its_first_step_or_a_finished_one_is_not_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("export", "exp-2", "my-exp", "exp2.old"):
        leave(tmp_path / name)
    leave(tmp_path / "exp", step=0)
    leave(tmp_path / "exp2", is_finished=True)
    (tmp_path / "exp3").mkdir()
    (tmp_path / "exp4").write_text("a file")
    mention_unfinished(tmp_path / "exp")
    mention_unfinished(tmp_path / "none" / "exp")
    assert "warning" not in capsys.readouterr().err
