"""Training state: counters, running sums, history and best weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from runtime.devices import HostCopy
from runtime.errors import TrainingError


@dataclass
class TrainState:
    """The progress of a run; the weights, the optimizer and whatever else a step changes belong to the Trainer."""

    run_name: str
    device: torch.device
    epoch: int = 0  # complete epochs
    step: int = 0  # steps of the current epoch
    steps_done: int = 0  # steps of the run
    loss_sum: Tensor | None = None  # () over the steps of the current epoch, on the device
    hits: Tensor | None = None  # () right training predictions of the current epoch, on the device
    images: int = 0  # of the steps of the current epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one row per complete epoch
    best_epoch: int = 0  # that of the model: the best, or the last; counts from 1, 0 before the first is complete
    best_score: float = -1.0
    best_weights: dict[str, Tensor] | None = None
    best_thresholds: list[float] = field(default_factory=list)  # (classes,) of several labels, else none
    _loss_copy: HostCopy | None = field(default=None, init=False, repr=False)  # of loss_sum, after the last step

    @property
    def epochs_since_best(self) -> int:
        """Return the number of complete epochs after the best one."""
        return self.epoch - self.best_epoch

    @property
    def best_row(self) -> Mapping[str, float]:
        """Return the row of the selected epoch in the history; empty before the first epoch is complete."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}

    def add(self, loss: Tensor, labels: Tensor, predicted: Tensor) -> None:
        """Count one step: its loss (), its labels and its predictions, (batch, ...) both, all on the device."""
        hits = are_right(labels, predicted).sum()
        self.loss_sum = loss if self.loss_sum is None else self.loss_sum + loss
        self.hits = hits if self.hits is None else self.hits + hits
        self.images += len(labels)
        self._loss_copy = HostCopy(self.loss_sum)
        self.step += 1
        self.steps_done += 1

    def check_finite(self) -> None:
        """Raise TrainingError if a loss of the current epoch is not finite; once it is not, the sum stays so.

        Call this after the next step is queued: the GPU computes that step while this waits for the steps before it.
        """
        if self._loss_copy and not self._loss_copy.read().isfinite():
            raise TrainingError(
                f"the loss is not finite at step {self.steps_done}, in epoch {self.epoch + 1}; "
                "lower --lr, set --clip-norm, or train with --precision fp32"
            )

    def end_epoch(
        self,
        values: Mapping[str, float],
        *,
        score: float,
        weights: Mapping[str, Tensor],
        thresholds: Sequence[float] = (),
        select: str = "best",
    ) -> None:
        """Complete the epoch: append its row to the history, and keep its weights and thresholds if it is selected.

        That is if its score is the best, or always to `select` the last one.
        """
        assert self.loss_sum is not None, "an epoch has at least one step"
        assert self.hits is not None
        accuracy = float(self.hits / torch.tensor(self.images))  # of two tensors of int64: in float32
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "step": self.steps_done,
            "train_loss": float(self.loss_sum) / self.step,
            "train_accuracy": accuracy,
        }
        self.history.append(row | dict(values))
        if score > self.best_score or select == "last":
            self.best_epoch, self.best_score, self.best_thresholds = self.epoch, score, list(thresholds)
            self.best_weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.step, self.loss_sum, self.hits, self.images = 0, None, None, 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the device; the tensors are the live ones, not copies."""
        return {name: value for name, value in vars(self).items() if name != "device" and not name.startswith("_")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a run; its tensors move to the device of this one.

        Raises KeyError for a missing part, ValueError for one that no run has. 0.1.0 had no thresholds, and
        stored the confusion matrix (classes, classes) of the epoch; its sums are what is needed of it.
        """
        if "matrix" in state:
            matrix = state["matrix"]
            sums = (None, 0) if matrix is None else (matrix.diagonal().sum(), int(matrix.sum()))
            state = {**state, **dict(zip(("hits", "images"), sums, strict=True))}
        state = {"best_thresholds": [], **state}
        _check(state)
        for name in self.state_dict():
            setattr(self, name, state[name])
        if self.best_weights is not None:  # where `end_epoch` leaves them, so that a step has as much memory as before
            self.best_weights = {name: tensor.to(self.device) for name, tensor in self.best_weights.items()}
        self.loss_sum, self.hits = (
            None if tensor is None else tensor.to(self.device) for tensor in (self.loss_sum, self.hits)
        )


def _check(state: Mapping[str, Any]) -> None:
    """Raise ValueError for a part of a stored state that no run has."""
    counts = ("epoch", "step", "steps_done", "images", "best_epoch")
    history, weights = state["history"], state["best_weights"]
    problems = {
        "run_name": not is_run_name(state["run_name"]),
        **{name: type(state[name]) is not int or state[name] < 0 for name in counts},
        **{name: not _is_sum(state[name]) for name in ("loss_sum", "hits")},
        "best_score": type(state["best_score"]) not in (int, float),
        "best_thresholds": not _are_numbers(state["best_thresholds"]),
        "history": not isinstance(history, list) or not all(map(_is_row, history)),
        "best_weights": weights is not None and not all(isinstance(tensor, Tensor) for tensor in weights.values()),
    }
    wrong = [name for name, is_wrong in problems.items() if is_wrong]
    if not wrong and not state["best_epoch"] <= state["epoch"] == len(history):
        wrong = ["history"]
    if wrong:
        raise ValueError(f"{wrong[0]} is not that of a run")


def are_right(labels: Tensor, predicted: Tensor) -> Tensor:
    """Return True for each image whose prediction is its label, (batch,); of several labels, all have to be."""
    same = labels == predicted
    return same if same.dim() == 1 else same.all(1)


def is_run_name(name: Any) -> bool:
    """Return True for the name of a folder in the output folder that is not hidden."""
    return isinstance(name, str) and name != "" and not name.startswith(".") and not {"/", "\0"} & set(name)


def _is_sum(value: Any) -> bool:
    return value is None or (isinstance(value, Tensor) and value.dim() == 0)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is float for value in values)


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and "epoch" in row and all(type(value) in (int, float) for value in row.values())
