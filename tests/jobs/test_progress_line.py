"""What is said while a job is watched: lines in a file, and a bar of epochs on a terminal."""

import io
import sys
import time
from datetime import UTC, datetime

import pytest

from jobs.progress_line import ProgressLine


class Terminal(io.StringIO):
    """What a person sees."""

    def isatty(self) -> bool:
        return True


def watched_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_file_gets_lines_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine({"epochs": "30"}) as progress:
        progress.state("InProgress  Training")
        progress.state("InProgress  Training")
        progress.log("epoch=3; val_f1=0.7312;")
        progress.state("Completed")
    said = capsys.readouterr()
    assert said.out == "epoch=3; val_f1=0.7312;\n"
    assert said.err == "0:00:00  InProgress  Training\n0:00:00  Completed\n"


def test_a_terminal_shows_how_many_epochs_are_done_and_the_newest_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine({"epochs": '"30"'}) as progress:
        progress.state("InProgress", started=datetime.fromtimestamp(time.time() - 120, UTC))
        progress.log("epoch=12; train_loss=0.6; val_loss=0.512; val_f1=0.8125;")
        progress.log("a line that tells of no epoch")
        shown = terminal.getvalue().split("\r")[-1]
    assert "12/30 [02:0" in shown
    assert "<03:0" in shown  # 18 epochs more, at the speed since training began
    assert "val_loss=0.512; val_f1=0.8125;" in shown
    assert capsys.readouterr().out.splitlines() == [
        "epoch=12; train_loss=0.6; val_loss=0.512; val_f1=0.8125;",
        "a line that tells of no epoch",
    ]


@pytest.mark.parametrize("hyperparameters", [None, {"epochs": "many"}])
def test_a_job_without_epochs_shows_the_time_and_how_it_stands(
    monkeypatch: pytest.MonkeyPatch, hyperparameters: dict[str, str] | None
) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine(hyperparameters) as progress:
        progress.state("InProgress  Processing")
        assert terminal.getvalue().split("\r")[-1].strip() == "00:00  InProgress  Processing"


def test_epochs_that_nobody_asked_for_are_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched_on_a_terminal(monkeypatch)
    with ProgressLine({}) as progress:
        progress.state("InProgress  epoch=1;")
        assert " 1/1 [" in terminal.getvalue().split("\r")[-1]
