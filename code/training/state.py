"""Where training stands: everything about a run that is not in the network, the optimizer or the seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from runtime.devices import HostCopy
from runtime.errors import TrainingError


@dataclass
class TrainState:
    """Epochs done, steps done in this epoch and in all, sums over this epoch, history, and the best so far."""

    run_name: str
    epoch: int = 0
    step: int = 0  # of this epoch
    steps_done: int = 0
    loss_sum: Tensor | None = None  # () over the steps of this epoch, on the device
    matrix: Tensor | None = None  # (classes, classes) of this epoch's training predictions, on the device
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # counts from 1; 0 is none yet
    best_score: float = -1.0
    best_weights: dict[str, Tensor] | None = None
    _arriving: HostCopy | None = field(default=None, init=False, repr=False)  # of loss_sum, as of the last step

    @property
    def epochs_since_best(self) -> int:
        return self.epoch - self.best_epoch

    def add(self, loss: Tensor, matrix: Tensor) -> None:
        """Count one step: its loss () and its confusion matrix (classes, classes)."""
        self.loss_sum = loss if self.loss_sum is None else self.loss_sum + loss
        self.matrix = matrix if self.matrix is None else self.matrix + matrix
        self._arriving = HostCopy(self.loss_sum)
        self.step += 1
        self.steps_done += 1

    def check_finite(self) -> None:
        """Raise TrainingError if a loss of this epoch was not finite, which it stays in the sum.

        To be asked when the next step is under way: a GPU then works on that while this waits for the steps before.
        """
        if self._arriving and not self._arriving.read().isfinite():
            raise TrainingError(
                f"the loss is not finite at step {self.steps_done}, in epoch {self.epoch + 1}; "
                "lower --lr, set --clip-norm, or train with --precision fp32"
            )

    def end_epoch(self, values: Mapping[str, float], *, score: float, weights: Mapping[str, Tensor]) -> None:
        """Close the epoch: one row of history, and a copy of the weights if its score beats all before."""
        assert self.loss_sum is not None, "an epoch has at least one step"
        assert self.matrix is not None
        accuracy = float(self.matrix.diagonal().sum() / self.matrix.sum())
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "step": self.steps_done,
            "train_loss": float(self.loss_sum) / self.step,
            "train_accuracy": accuracy,
        }
        self.history.append(row | dict(values))
        if score > self.best_score:
            self.best_epoch, self.best_score = self.epoch, score
            self.best_weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.step, self.loss_sum, self.matrix = 0, None, None

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @classmethod
    def load_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> Self:
        """The same, with its sums on a device."""
        sums = {name: state[name].to(device) for name in ("loss_sum", "matrix") if state[name] is not None}
        return cls(**{**state, **sums})
