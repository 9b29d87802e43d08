"""Optimizers by name, learning-rate schedules as functions of the step, and the moving average of weights."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from runtime.errors import ConfigError, unknown_name

Schedule = Callable[[int], float]  # optimizer steps done so far -> share of the peak learning rate

_OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "Adadelta": optim.Adadelta,
    "Adagrad": optim.Adagrad,
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "RMSprop": optim.RMSprop,
    "Rprop": optim.Rprop,
    "SGD": optim.SGD,
}
# Half the time, on a CPU too. Adagrad's is for CPUs only. SGD's is slower there, and on a GPU its momentum begins with
# whatever lies in memory if the first step overflows in fp16 (torch 2.10).
_FUSED = (optim.Adam, optim.AdamW)


def create_optimizer(
    name: str, model: nn.Module, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Build an optimizer of torch.optim; raises ConfigError for an unknown name.

    Vectors (biases, and the scales of norms) are not decayed, as in timm: pulling a scale to zero regularises nothing.
    `momentum` goes to SGD and RMSprop, the ones that have it; Rprop alone knows no weight decay. The fused form, one
    kernel for all weights, is taken where there is one and it pays.
    """
    if name not in _OPTIMIZERS:
        raise ConfigError(unknown_name("optimizer", name, _OPTIMIZERS))
    create = _OPTIMIZERS[name]
    accepted = inspect.signature(create).parameters
    options: dict[str, Any] = {"lr": lr}
    if "momentum" in accepted:
        options["momentum"] = momentum
    if create in _FUSED:
        options["fused"] = True
    return create(list(_groups(model, weight_decay if "weight_decay" in accepted else None)), **options)


def _groups(model: nn.Module, weight_decay: float | None) -> Iterator[dict[str, Any]]:
    """Weights that decay, and those that do not; one group of all where the optimizer knows no decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if weight_decay is None:
        yield {"params": parameters}
        return
    yield {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}


def get_lr(optimizer: optim.Optimizer) -> float:
    """The current learning rate (of the first group, as the original has it)."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: optim.Optimizer, lr: float) -> None:
    """Give all groups the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


@dataclass(frozen=True)
class _Course:
    """The lengths that a schedule depends on."""

    steps_per_epoch: int
    epochs: int
    lr_decay_step: int  # epochs
    warmup_epochs: float

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @property
    def warmup_steps(self) -> int:
        return round(self.warmup_epochs * self.steps_per_epoch)


def create_schedule(
    name: str, *, steps_per_epoch: int, epochs: int, lr_decay_step: int = 20, warmup_epochs: float = 0.0
) -> Schedule:
    """A learning-rate schedule as a pure function of the steps done, so that resuming needs no state of it.

    - constant
    - step: half as much every `lr_decay_step` epochs (the original's StepLR with gamma 0.5)
    - cosine: down to zero at the end (Loshchilov and Hutter, SGDR, 2017, without restarts)
    - onecycle: up from 1/25, down to 1/250,000 (Smith and Topin, Super-Convergence, 2018; torch's OneCycleLR with its
      defaults); the rising part is 30 percent of all steps, or `warmup_epochs` where these are given

    The others rise linearly from zero over `warmup_epochs` first; cosine falls over what is left. Raises ConfigError
    for an unknown name.
    """
    if name not in _schedules:
        raise ConfigError(unknown_name("schedule", name, _schedules))
    factor = _schedules[name]
    course = _Course(steps_per_epoch, epochs, lr_decay_step, warmup_epochs)
    if factor is _one_cycle or not course.warmup_steps:
        return lambda step: factor(course, step)
    return lambda step: min(1.0, (step + 1) / course.warmup_steps) * factor(course, step)


def _constant(course: _Course, step: int) -> float:
    return 1.0


def _step(course: _Course, step: int) -> float:
    return float(0.5 ** (step // course.steps_per_epoch // course.lr_decay_step))


def _cosine(course: _Course, step: int) -> float:
    return _half_wave((step - course.warmup_steps) / max(1, course.steps - course.warmup_steps))


def _one_cycle(course: _Course, step: int) -> float:
    start, end = 1 / 25, 1 / 25 / 1e4
    rising = course.warmup_epochs * course.steps_per_epoch or 0.3 * course.steps
    peak, last = rising - 1, course.steps - 1  # as torch counts: both ends belong to their part
    if step < peak:
        return 1 + (start - 1) * _half_wave(step / peak)
    return end + (1 - end) * _half_wave((step - peak) / max(last - peak, 1e-9))


def _half_wave(share: float) -> float:
    """Half a cosine wave: from 1 where `share` is 0 (or less) to 0 where it is 1 (or more)."""
    return (1 + math.cos(math.pi * min(1.0, max(0.0, share)))) / 2


_schedules: dict[str, Callable[[_Course, int], float]] = {
    "step": _step,
    "cosine": _cosine,
    "onecycle": _one_cycle,
    "constant": _constant,
}


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

    def start_from(self, model: nn.Module) -> None:
        """Begin anew, with the weights of a network."""
        self.module.load_state_dict(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of steps; the tensors are the live ones, not copies."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averaged.load_state_dict(state)

    def _average(self, averages: Any, currents: Any, _: Tensor | int) -> None:
        steps = int(self._averaged.n_averaged)  # kept on the CPU: to ask the GPU for it would wait for the GPU
        decay = min(self.decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(decay)(averages, currents, steps)  # type: ignore[no-untyped-call]
