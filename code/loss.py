"""Losses by name, with the seed's classes. The number of classes is always that of the logits.

All take logits (batch, classes) and class numbers (batch,), and compute in float32 whatever the logits' type.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from errors import ConfigError, unknown_name


class FocalLoss(nn.Module):
    """-(1 - p)^gamma log p of the true class: confident samples count less (Lin et al., Focal Loss, 2017).

    `weight` (classes,) weighs each class, and the mean divides by the weights, as in torch's cross entropy.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        _require("gamma", gamma, gamma >= 0, "at least 0")
        _require("reduction", reduction, reduction in ("mean", "sum", "none"), "mean, sum or none")
        self.register_buffer("weight", weight, persistent=False)
        self.gamma, self.reduction = gamma, reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_probabilities = functional.log_softmax(logits.float(), dim=1)
        focused = (1 - log_probabilities.exp()) ** self.gamma * log_probabilities
        return functional.nll_loss(focused, labels, weight=self.weight, reduction=self.reduction)


class LabelSmoothingLoss(nn.Module):
    """Cross entropy against 1 - smoothing for the true class and smoothing / (classes - 1) for every other.

    This is the seed's formula. torch's CrossEntropyLoss(label_smoothing=s) also gives the true class its share, so it
    equals this one with s (classes - 1) / classes.
    """

    weight: Tensor | None

    def __init__(
        self, classes: int | None = None, smoothing: float = 0.1, dim: int = -1, weight: Tensor | None = None
    ) -> None:
        """`classes`, as the seed has it, may be given and must then be that of the logits."""
        super().__init__()
        _require("smoothing", smoothing, 0 <= smoothing < 1, "at least 0 and below 1")
        self.register_buffer("weight", weight, persistent=False)
        self.classes, self.smoothing, self.dim = classes, smoothing, dim

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = _count_classes(logits, self.classes, self.dim)
        log_probabilities = functional.log_softmax(logits.float(), dim=self.dim)
        target = torch.full_like(log_probabilities, self.smoothing / (classes - 1))
        target.scatter_(self.dim, labels.unsqueeze(self.dim), 1 - self.smoothing)
        losses = -(target * log_probabilities).sum(self.dim)
        if self.weight is None:
            return losses.mean()
        weights = self.weight[labels]
        return (losses * weights).sum() / weights.sum()


class F1Loss(nn.Module):
    """1 - macro F1, with probabilities in the place of counts over the batch (the seed's class)."""

    def __init__(self, classes: int | None = None, epsilon: float = 1e-7) -> None:
        """`classes`, as the seed has it, may be given and must then be that of the logits."""
        super().__init__()
        _require("epsilon", epsilon, 0 < epsilon < 1, "above 0 and below 1")
        self.classes, self.epsilon = classes, epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = _count_classes(logits, self.classes, 1)
        probabilities = functional.softmax(logits.float(), dim=1)
        truth = functional.one_hot(labels, classes).float()
        hits = (truth * probabilities).sum(0)
        precision = hits / (probabilities.sum(0) + self.epsilon)
        recall = hits / (truth.sum(0) + self.epsilon)
        f1 = 2 * precision * recall / (precision + recall + self.epsilon)
        return 1 - f1.clamp(self.epsilon, 1 - self.epsilon).mean()


def _count_classes(logits: Tensor, classes: int | None, dim: int) -> int:
    if classes not in (None, logits.shape[dim]):
        raise ConfigError(f"the loss was made for {classes} classes and the model has {logits.shape[dim]}")
    return logits.shape[dim]


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"--criterion-args: {name}={value!r} is out of range, must be {expected}")


_criterion_entrypoints: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "focal": FocalLoss,
    "label_smoothing": LabelSmoothingLoss,
    "f1": F1Loss,
}

# What may be given by name on the command line; a weight is a tensor and comes from --class-weights.
_ARGUMENTS = {
    "cross_entropy": ("label_smoothing",),
    "focal": ("gamma",),
    "label_smoothing": ("smoothing", "classes"),
    "f1": ("epsilon", "classes"),
}


def criterion_entrypoint(criterion_name: str) -> Callable[..., nn.Module]:
    """The class of a loss; raises ConfigError for an unknown name."""
    if not is_criterion(criterion_name):
        raise ConfigError(unknown_name("criterion", criterion_name, _criterion_entrypoints))
    return _criterion_entrypoints[criterion_name]


def is_criterion(criterion_name: str) -> bool:
    """Whether a loss of this name exists."""
    return criterion_name in _criterion_entrypoints


def create_criterion(criterion_name: str, **kwargs: Any) -> nn.Module:
    """Build a loss; raises ConfigError for an unknown name or argument, or a value that it cannot take.

    >>> create_criterion("focal", gamma=1.5)
    FocalLoss()
    """
    create = criterion_entrypoint(criterion_name)
    if kwargs.get("weight") is not None and "weight" not in inspect.signature(create).parameters:
        raise ConfigError(f"--class-weights: the loss {criterion_name!r} takes no class weights; choose another loss")
    for name, value in kwargs.items():
        if name == "weight":
            continue
        if name not in _ARGUMENTS[criterion_name]:
            taken = unknown_name("argument", name, _ARGUMENTS[criterion_name])
            raise ConfigError(f"--criterion-args: {criterion_name!r} has no {name!r}; {taken}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"--criterion-args: {name}={value!r} is not a number")
    if criterion_name == "cross_entropy":
        smoothing = kwargs.get("label_smoothing", 0.0)
        _require("label_smoothing", smoothing, 0 <= smoothing < 1, "at least 0 and below 1")
    return create(**kwargs)


def balanced_class_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """Weights (classes,) that make every class count the same: scikit-learn's `balanced`; 0 for an absent class."""
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.zeros(num_classes)
    present = counts > 0
    weights[present] = len(labels) / (present.sum() * counts[present])
    return torch.from_numpy(weights).float()
