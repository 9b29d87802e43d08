"""What is said while a job is watched: its state, its log, and on a terminal a line at the bottom that tells how far.

40%|████      | 12/30 [0:04:10<0:06:15, val_loss=0.512; val_f1=0.8125;]
"""

import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Self

from tqdm import tqdm

from config import TrainConfig
from metrics import METRICS

_EPOCH, *_VALUES = (
    re.compile(metric.definition()["Regex"]) for metric in METRICS if metric.name in ("epoch", "val_loss", "val_f1")
)
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_CLOCK = "{elapsed}  {desc}"


class ProgressLine:
    """The epochs of a training job as a bar, of any other job a clock and its state; files get neither."""

    def __init__(self, hyperparameters: Mapping[str, str] | None) -> None:
        """`hyperparameters` are those of a training job, None for any other."""
        self._began, self._said = time.monotonic(), ""
        epochs = None if hyperparameters is None else _epochs(hyperparameters)
        form = _BAR if epochs else _CLOCK
        self._bar = tqdm(total=epochs, bar_format=form, disable=None, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.close()

    def state(self, line: str, started: datetime | None = None) -> None:
        """Say how the job stands, if it stands otherwise than before; `started` is when training did."""
        if line != self._said:
            self.say(line)
        self._said = line
        if started:
            self._bar.start_t = started.timestamp()
        if self._bar.total is None:
            self._bar.set_description_str(line, refresh=False)
        self._read(line)

    def say(self, line: str) -> None:
        """A line of ours, with the time since watching began, to stderr."""
        seconds = int(time.monotonic() - self._began)
        tqdm.write(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}  {line}", sys.stderr)
        sys.stderr.flush()

    def log(self, line: str) -> None:
        """A line of the job, to stdout."""
        tqdm.write(line, sys.stdout)
        sys.stdout.flush()
        self._read(line)

    def _read(self, line: str) -> None:
        """Take from a line how far training is."""
        if self._bar.disable:
            return
        if match := _EPOCH.search(line):
            self._bar.n = int(float(match[1]))
            self._bar.set_postfix_str(" ".join(value[0] for regex in _VALUES if (value := regex.search(line))), False)
        self._bar.refresh()


def _epochs(hyperparameters: Mapping[str, str]) -> int | None:
    """How many there will be; None if the job is none of ours."""
    text = hyperparameters.get("epochs", str(TrainConfig.epochs)).strip('"')
    return int(text) if text.isdigit() else None
