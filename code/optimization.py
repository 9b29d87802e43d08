"""Optimizers by name, learning-rate schedules as functions of the step, and the moving average of the weights."""

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel

from runtime.errors import ConfigError, unknown_name

Schedule = Callable[[int], float]  # number of optimizer steps done -> factor of the peak learning rate, 0..1

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
# Their fused form takes half the time, also on a CPU. Adagrad's exists for CPUs only, and SGD's is slower on a CPU.
_FUSED = (optim.Adam, optim.AdamW)
_FUSED_ON_GPU = (*_FUSED, optim.SGD)  # in fp16 a step of any other waits for the GPU: was there an overflow?


def create_optimizer(
    name: str,
    model: nn.Module,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    scales: Mapping[str, float] | None = None,
) -> optim.Optimizer:
    """Create an optimizer of torch.optim by name; raises ConfigError for an unknown one.

    Weight decay applies to matrices and kernels, not to biases and the scales of norms, as in timm. `momentum` is used
    by SGD and RMSprop only, and Rprop has no weight decay. Adam and AdamW use their fused form, one kernel for all
    weights, and so does SGD on a GPU. `scales` are factors of the learning rate by the names of parameters, 1 without.
    """
    if name not in _OPTIMIZERS:
        raise ConfigError(unknown_name("optimizer", name, _OPTIMIZERS))
    create = _OPTIMIZERS[name]
    accepted = inspect.signature(create).parameters
    options: dict[str, Any] = {"lr": lr}
    if "momentum" in accepted:
        options["momentum"] = momentum
    if create in (_FUSED_ON_GPU if next(model.parameters()).is_cuda else _FUSED):
        options["fused"] = True
    decay = weight_decay if "weight_decay" in accepted else None
    groups = list(_groups(model, decay) if scales is None else _scaled_groups(model, decay, lr, scales))
    optimizer = create(groups, **options)
    if isinstance(optimizer, optim.SGD) and optimizer.defaults["fused"]:
        preset_momentum(optimizer)
        optimizer.register_load_state_dict_post_hook(preset_momentum)
    return optimizer


def preset_momentum(optimizer: optim.Optimizer) -> None:
    """Set the momentum buffers that SGD has not created yet to zeros.

    The result is that of buffers created in the first step. But fused SGD leaves a new buffer uninitialised if that
    step overflows in fp16 (torch 2.10).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _groups(model: nn.Module, weight_decay: float | None) -> Iterator[dict[str, Any]]:
    """Yield parameter groups with and without weight decay, or a single group if `weight_decay` is None."""
    yield from _split_by_decay([found for found in model.parameters() if found.requires_grad], weight_decay)


def _scaled_groups(
    model: nn.Module, weight_decay: float | None, lr: float, scales: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield the groups of `_groups` for each factor in `scales`, the largest first, with timm's entry `lr_scale`."""
    for scale in sorted(set(scales.values()), reverse=True):
        parameters = [found for name, found in model.named_parameters() if scales[name] == scale]
        for group in _split_by_decay(parameters, weight_decay):
            if group["params"]:
                yield group | {"lr": lr * scale, "lr_scale": scale}


def _split_by_decay(parameters: list[nn.Parameter], weight_decay: float | None) -> Iterator[dict[str, Any]]:
    if weight_decay is None:
        yield {"params": parameters}
        return
    yield {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}


def get_lr(optimizer: optim.Optimizer) -> float:
    """Return the current learning rate (the original's function): before it is scaled, if groups have several."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get("lr_scale", 1.0))


def set_lr(optimizer: optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, times the `lr_scale` of each.

    One that is a tensor is set in place, where a captured step reads it.
    """
    for group in optimizer.param_groups:
        scaled = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def learning_rate_scales(
    depths: Mapping[str, int], layer_decay: float = 1.0, head: float | None = None
) -> dict[str, float]:
    """Return a factor of the learning rate for each tensor of a network by name, from the depth of each.

    It is `layer_decay` to the power of the number of blocks up to the head (Bao et al., BEiT, 2021; as in timm). `head`
    is that of the head, 1 if it is None.
    """
    top = max(depths.values())
    return {
        name: head if depth == top and head is not None else layer_decay ** (top - depth)
        for name, depth in depths.items()
    }


@dataclass(frozen=True)
class _Lengths:
    """The durations that a schedule depends on."""

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
    """Create a learning-rate schedule by name: a pure function of the steps done, without a state to save.

    - constant
    - step: halved every `lr_decay_step` epochs (the original's StepLR with gamma 0.5)
    - cosine: down to zero at the end (Loshchilov and Hutter, SGDR, 2017, without restarts)
    - onecycle: up from 1/25, then down to 1/250,000 (Smith and Topin, Super-Convergence, 2018; torch's OneCycleLR with
      its defaults); it rises for `warmup_epochs`, or for 30 percent of the steps if that is 0

    All but onecycle begin with a linear rise from zero over `warmup_epochs`; cosine falls over the remaining steps.
    Raises ConfigError for an unknown name.
    """
    if name not in _schedules:
        raise ConfigError(unknown_name("schedule", name, _schedules))
    factor = _schedules[name]
    lengths = _Lengths(steps_per_epoch, epochs, lr_decay_step, warmup_epochs)
    if factor is _one_cycle or not lengths.warmup_steps:
        return lambda step: factor(lengths, step)
    return lambda step: min(1.0, (step + 1) / lengths.warmup_steps) * factor(lengths, step)


def _constant(lengths: _Lengths, step: int) -> float:
    return 1.0


def _step(lengths: _Lengths, step: int) -> float:
    return float(0.5 ** (step // lengths.steps_per_epoch // lengths.lr_decay_step))


def _cosine(lengths: _Lengths, step: int) -> float:
    return _half_wave((step - lengths.warmup_steps) / max(1, lengths.steps - lengths.warmup_steps))


def _one_cycle(lengths: _Lengths, step: int) -> float:
    start, end = 1 / 25, 1 / 25 / 1e4
    rising = lengths.warmup_epochs * lengths.steps_per_epoch or 0.3 * lengths.steps
    peak, last = rising - 1, lengths.steps - 1  # as torch counts: each phase includes its last step
    if step < peak:
        return 1 + (start - 1) * _half_wave(step / peak)
    return end + (1 - end) * _half_wave((step - peak) / max(last - peak, 1e-9))


def _half_wave(progress: float) -> float:
    """Return half a cosine wave: 1 at a `progress` of 0 or less, 0 at 1 or more."""
    return (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2


_schedules: dict[str, Callable[[_Lengths, int], float]] = {
    "step": _step,
    "cosine": _cosine,
    "onecycle": _one_cycle,
    "constant": _constant,
}


class ExponentialMovingAverage:
    """A moving average of a network: average += (1 - decay) (weights - average), after every step.

    The decay starts low, min(decay, (1 + steps) / (10 + steps)), so that the random initial weights do not dominate a
    short run (as in TensorFlow's ExponentialMovingAverage). Running statistics of batch norm are averaged too. Whole
    numbers, such as its count of batches or the table of positions in Swin's attention, are those of the network: an
    average of them would be cut off to a whole number.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._averaged = AveragedModel(model, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """Return the averaged network."""
        module: nn.Module = self._averaged.module
        return module

    def update(self, model: nn.Module, frozen: Collection[str] = ()) -> None:
        """Update the average after an optimizer step of the network; nothing waits for the device.

        Tensors whose names are in `frozen` have not changed, and neither does their average.
        """
        steps = int(self._averaged.n_averaged)  # it is on the CPU
        (averages, counts), (weights, their_counts) = _tensors(self.module, frozen), _tensors(model, frozen)
        with torch.no_grad():
            if counts:
                torch._foreach_copy_(counts, their_counts)
            if steps:
                torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + steps) / (10 + steps)))
            else:
                torch._foreach_copy_(averages, weights)
        self._averaged.n_averaged += 1

    def start_from(self, model: nn.Module) -> None:
        """Set the average to the weights of a network."""
        self.module.load_state_dict(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of steps; the tensors are not copied."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averaged.load_state_dict(state)


def _tensors(model: nn.Module, without: Collection[str] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters and buffers of a network: the fractions, and the whole numbers."""
    named = (*model.named_parameters(), *model.named_buffers())
    tensors = [tensor for name, tensor in named if name not in without]
    fractions = [tensor for tensor in tensors if tensor.is_floating_point()]
    return fractions, [tensor for tensor in tensors if not tensor.is_floating_point()]
