"""The output of a run while it trains: a progress bar or log lines, metrics.jsonl, and TensorBoard events."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from metrics import log_line
from runtime.devices import HostCopy
from runtime.files import replacing

Item = TypeVar("Item")


def increment_path(path: str | Path, exist_ok: bool = False) -> Path:
    """Return the path if it is free (or `exist_ok`), else with the next number: exp, exp2 (the original's rule)."""
    path = Path(path)
    if exist_ok or not path.exists():
        return path
    pattern = re.compile(re.escape(path.name) + r"(\d+)")
    numbers = [int(match[1]) for sibling in path.parent.iterdir() if (match := pattern.fullmatch(sibling.name))]
    return path.with_name(f"{path.name}{max([1, *numbers]) + 1}")


def on_terminal() -> bool:
    """Return whether stderr is a terminal, where progress bars make sense."""
    return sys.stderr.isatty()


def progress(items: Iterable[Item], total: int, description: str, initial: int = 0) -> Iterable[Item]:
    """Return `items` with a tqdm bar on a terminal, else unchanged: log files get no bars."""
    if not on_terminal():
        return items
    return tqdm(items, description, total=total, initial=initial, leave=False, unit="it", dynamic_ncols=True)


def say(line: str) -> None:
    """Print a line of the log, above the progress bar if there is one."""
    tqdm.write(line)
    sys.stdout.flush()


class Tracker:
    """Writes the results of steps and epochs to the log, to metrics.jsonl and to TensorBoard.

    metrics.jsonl holds nothing that depends on the clock, so a resumed run leaves the same bytes as one that was never
    interrupted; speed goes to the log and to TensorBoard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self.writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.writer.close()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Write a point of the training curves: Train/loss, Train/accuracy, Train/learning_rate."""
        for name, value in values.items():
            self.writer.add_scalar(f"Train/{name}", value, step)

    def epoch(self, history: Sequence[Mapping[str, float]], speed: Mapping[str, float]) -> None:
        """Write the last row of the history: one line of the log, all scalars by epoch, and metrics.jsonl."""
        newest = history[-1]
        print(log_line({**newest, **speed}), flush=True)
        for name, value in {**newest, **speed}.items():
            if name not in ("epoch", "step"):
                group, _, rest = name.partition("_")
                tag = f"Val/{rest}" if group == "val" else f"Run/{name}"  # Train/ is by step
                self.writer.add_scalar(tag, value, int(newest["epoch"]))
        self.write_history(history)

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.jsonl: one line for each epoch."""
        with replacing(self.folder / "metrics.jsonl") as file:
            file.writelines(json.dumps(dict(row)) + "\n" for row in history)

    def figure(self, name: str, figure: Any, epoch: int) -> None:
        """Write a matplotlib figure, such as the original's grid of images."""
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        pixels = np.frombuffer(figure.canvas.buffer_rgba(), np.uint8).reshape(height, width, 4)[..., :3]
        self.writer.add_image(name, pixels, epoch, dataformats="HWC")


class Silent(Tracker):
    """The tracker of a worker that is not the first one: it writes nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def step(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def epoch(self, history: Sequence[Mapping[str, float]], speed: Mapping[str, float]) -> None:
        pass

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        pass

    def figure(self, name: str, figure: Any, epoch: int) -> None:
        pass


class LateCurves:
    """Points of the training curves, each written one step late: reading a loss at once would wait for the GPU."""

    def __init__(self, write: Callable[[int, Mapping[str, float]], None]) -> None:
        """`write` takes the number of a step and its values, as `Tracker.step` does."""
        self._write = write
        self._pending: tuple[int, HostCopy, float] | None = None

    def add(self, step: int, loss: Tensor, accuracy: Tensor, learning_rate: float) -> None:
        """Start to copy loss and accuracy, () each, of a step to the host; what was added before is written."""
        self.write()
        self._pending = step, HostCopy(torch.stack((loss, accuracy))), learning_rate

    def write(self) -> None:
        """Write the point that was added, if there is one; call this after the next step is queued."""
        pending, self._pending = self._pending, None
        if pending:
            step, copy, learning_rate = pending
            loss, accuracy = copy.read().tolist()
            self._write(step, {"loss": loss, "accuracy": accuracy, "learning_rate": learning_rate})

    def close(self) -> None:
        """Write what is left, at the end of an epoch or at a stop."""
        self.write()
