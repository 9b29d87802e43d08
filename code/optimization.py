"""Optimizers by name, learning-rate schedules as functions of the step, and the moving average of weights."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from config import OPTIMIZERS, SCHEDULES
from errors import ConfigError, unknown_name

Schedule = Callable[[int], float]  # optimizer steps done so far -> share of the peak learning rate


def create_optimizer(
    name: str, model: nn.Module, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Build an optimizer of torch.optim; raises ConfigError for an unknown name.

    Biases and the scales of norms are not decayed (as timm does: pulling a scale to zero regularises nothing).
    `momentum` goes to those that have one. On a GPU the fused form is taken where there is one.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(unknown_name("optimizer", name, OPTIMIZERS))
    create = getattr(torch.optim, name)
    accepted = inspect.signature(create).parameters
    options: dict[str, Any] = {"lr": lr}
    if "momentum" in accepted:
        options["momentum"] = momentum
    if "fused" in accepted and next(model.parameters()).is_cuda:
        options["fused"] = True
    decays = weight_decay if "weight_decay" in accepted else None
    optimizer: torch.optim.Optimizer = create(list(_groups(model, decays)), **options)
    return optimizer


def _groups(model: nn.Module, weight_decay: float | None) -> Iterator[dict[str, Any]]:
    """Weights that decay, and those that do not; one group of all where the optimizer knows no decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if weight_decay is None:
        yield {"params": parameters}
        return
    yield {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """The current learning rate (of the first group, as the seed has it)."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all groups the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def create_schedule(
    name: str, *, steps_per_epoch: int, epochs: int, lr_decay_step: int = 20, warmup_epochs: float = 0.0
) -> Schedule:
    """A learning-rate schedule as a pure function of the steps done, so that resuming needs no state of it.

    - constant
    - step: half as much every `lr_decay_step` epochs (the seed's StepLR with gamma 0.5)
    - cosine: down to zero at the end (Loshchilov and Hutter, SGDR, 2017, without restarts)
    - onecycle: up from 1/25, down to 1/250,000 (Smith and Topin, Super-Convergence, 2018), the rising part being 30
      percent of all steps, or `warmup_epochs` where these are given; torch's OneCycleLR with its defaults

    The others rise linearly from zero over `warmup_epochs` first; cosine falls over what is left.
    """
    total, warmup = steps_per_epoch * epochs, round(warmup_epochs * steps_per_epoch)
    match name:
        case "constant":
            shape: Schedule = lambda step: 1.0  # noqa: E731 - one line each, side by side
        case "step":
            shape = lambda step: 0.5 ** (step // steps_per_epoch // lr_decay_step)  # noqa: E731
        case "cosine":
            shape = lambda step: _cosine((step - warmup) / max(1, total - warmup))  # noqa: E731
        case "onecycle":
            return _one_cycle(total, warmup or 0.3 * total)
        case _:
            raise ConfigError(unknown_name("schedule", name, SCHEDULES))
    return lambda step: (step + 1) / warmup if step < warmup else shape(step)


def _cosine(share: float) -> float:
    """From 1 at the beginning to 0 at the end."""
    return (1 + math.cos(math.pi * min(1.0, max(0.0, share)))) / 2


def _one_cycle(total: int, rising: float) -> Schedule:
    start, end = 1 / 25, 1 / 25 / 1e4
    peak, last = max(rising - 1, 0.0), max(total - 1, 1)

    def factor(step: int) -> float:
        if step <= peak:
            return 1 + (start - 1) * _cosine(step / peak if peak else 1.0)
        return end + (1 - end) * _cosine((step - peak) / max(last - peak, 1e-9))

    return factor


class ExponentialMovingAverage:
    """A second network that follows the first: average += (1 - decay) (weights - average), after every step.

    The decay starts low, min(decay, (1 + steps) / (10 + steps)), so that a short run is not dominated by its random
    beginning (as in TensorFlow's ExponentialMovingAverage). Running statistics of batch norm are averaged too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """The averaged network."""
        module: nn.Module = self._averaged.module
        return module

    def update(self, model: nn.Module) -> None:
        """Follow the network after one of its steps."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._averaged.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._averaged.load_state_dict(state)

    @torch.no_grad()
    def _average(self, averages: Any, currents: Any, steps: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)
