"""Losses by name, with the original's classes.

All take logits (batch, classes) and class numbers (batch,), and compute in float32 for logits of any type. The number
of classes is that of the logits.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from runtime.errors import ConfigError, unknown_name


@runtime_checkable
class ImageLoss(Protocol):
    """A loss that is a mean over images, so that each may have a weight of its own."""

    def per_image(self, logits: Tensor, labels: Tensor, /) -> Tensor:
        """Return the loss of each image, (batch,), times the weight of its class if there are class weights."""
        ...


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """torch's cross entropy in float32; `label_smoothing` is spread over all classes, including the true one."""

    def __init__(self, weight: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        require_number("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "at least 0 and below 1")
        super().__init__(weight, label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(logits.float(), labels)

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits.float(), labels, self.weight, reduction="none", label_smoothing=self.label_smoothing
        )


class FocalLoss(nn.Module):
    """-(1 - p)^gamma log p of the true class, so that easy samples count less (Lin et al., Focal Loss, 2017).

    `weight` (classes,) and `reduction` (mean, sum or none) are those of torch's cross entropy: a mean is divided by the
    sum of the weights.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        require_number("gamma", gamma, 0 <= gamma <= 100, "at least 0 and at most 100")
        _require("reduction", reduction, reduction in ("mean", "sum", "none"), "mean, sum or none")
        self.register_buffer("weight", weight, persistent=False)
        self.gamma, self.reduction = gamma, reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._reduced(logits, labels, self.reduction)

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._reduced(logits, labels, "none")

    def _reduced(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        log_probabilities = functional.log_softmax(logits.float(), dim=1)
        # 1 - p, without cancellation; at 0 the derivative of a power below 1 would be infinite, and the gradient NaN
        complement = (-torch.expm1(log_probabilities)).clamp(min=torch.finfo(torch.float32).tiny)
        focused = complement**self.gamma * log_probabilities
        return functional.nll_loss(focused, labels, weight=self.weight, reduction=reduction)


class LabelSmoothingLoss(nn.Module):
    """Cross entropy with a target of 1 - smoothing for the true class and smoothing / (classes - 1) for each other one.

    This is the original's formula. In torch's CrossEntropyLoss(label_smoothing=s), the true class gets s / classes too,
    so it equals this loss with smoothing = s (classes - 1) / classes. `weight` (classes,) is as in torch's.
    """

    weight: Tensor | None

    def __init__(
        self, classes: int | None = None, smoothing: float = 0.1, dim: int = -1, weight: Tensor | None = None
    ) -> None:
        """`dim` is the dimension of the classes. `classes` is optional; if given, it must match the logits."""
        super().__init__()
        require_number("smoothing", smoothing, 0 <= smoothing < 1, "at least 0 and below 1")
        _require_classes(classes)
        self.register_buffer("weight", weight, persistent=False)
        self.classes, self.smoothing, self.dim = classes, smoothing, dim

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        weighted = self._weighted(logits, labels)
        if self.weight is None:
            return -weighted.sum(-1).mean()
        return -weighted.sum() / self.weight[labels].sum()

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -self._weighted(logits, labels).sum(-1)

    def _weighted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return target times log probability, times the weight of the class if there are any, (..., classes)."""
        classes = _count_classes(logits, self.classes, self.dim)
        log_probabilities = functional.log_softmax(logits.float(), dim=self.dim).movedim(self.dim, -1)
        target = torch.full_like(log_probabilities, self.smoothing / (classes - 1))  # (..., classes)
        target.scatter_(-1, labels.unsqueeze(-1), 1 - self.smoothing)
        return target * log_probabilities if self.weight is None else self.weight * target * log_probabilities


class F1Loss(nn.Module):
    """1 - macro F1 over the batch, with probabilities instead of counts (the original's class)."""

    def __init__(self, classes: int | None = None, epsilon: float = 1e-7) -> None:
        """`classes` is optional, as in the original; if given, it must match the logits."""
        super().__init__()
        require_number("epsilon", epsilon, 0 < epsilon < 0.5, "above 0 and below 0.5")
        _require_classes(classes)
        self.classes, self.epsilon = classes, epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = _count_classes(logits, self.classes, 1)
        probabilities = functional.softmax(logits.float(), dim=1)
        targets = functional.one_hot(labels, classes).float()
        true_positives = (targets * probabilities).sum(0)  # (classes,)
        precision = true_positives / (probabilities.sum(0) + self.epsilon)
        recall = true_positives / (targets.sum(0) + self.epsilon)
        f1 = 2 * precision * recall / (precision + recall + self.epsilon)
        return 1 - f1.clamp(self.epsilon, 1 - self.epsilon).mean()


def _count_classes(logits: Tensor, classes: int | None, dim: int) -> int:
    if classes not in (None, logits.shape[dim]):
        raise ConfigError(
            f"--criterion-args: the loss has {classes} classes and the model has {logits.shape[dim]};"
            " leave `classes` out"
        )
    return logits.shape[dim]


def _require_classes(classes: int | None) -> None:
    _require(
        "classes", classes, classes is None or (type(classes) is int and classes >= 2), "a whole number of at least 2"
    )


def require_number(name: str, value: float, valid: bool, expected: str) -> None:
    """Raise ConfigError for an argument that is not finite or out of range."""
    _require(name, value, math.isfinite(value) and valid, expected)


def _require(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise ConfigError(f"--criterion-args: {name}={value!r} is out of range, must be {expected}")


_criterion_entrypoints: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "label_smoothing": LabelSmoothingLoss,
    "f1": F1Loss,
}

# Not accepted in --criterion-args: training needs the mean over the batch, and weights come from --class-weights.
_NOT_BY_NAME = ("weight", "pos_weight", "reduction", "dim")


def criterion_entrypoint(criterion_name: str) -> Callable[..., nn.Module]:
    """Return the class of a loss by name; raises ConfigError for an unknown one."""
    if not is_criterion(criterion_name):
        raise ConfigError(unknown_name("criterion", criterion_name, _criterion_entrypoints))
    return _criterion_entrypoints[criterion_name]


def is_criterion(criterion_name: str) -> bool:
    """Return True if a loss of this name exists."""
    return criterion_name in _criterion_entrypoints


def create_criterion(criterion_name: str, /, **kwargs: Any) -> nn.Module:
    """Create a loss by name; raises ConfigError for an unknown name or argument, or a value out of range.

    >>> create_criterion("focal", gamma=1.5)
    FocalLoss()
    """
    return create_checked(criterion_entrypoint(criterion_name), criterion_name, kwargs)


def create_checked(create: Callable[..., nn.Module], criterion_name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """Create a loss of the class `create`, whose name is `criterion_name` in messages, as `create_criterion` does."""
    accepted = inspect.signature(create).parameters
    options = [name for name in accepted if name not in _NOT_BY_NAME]
    given = {name: value for name, value in kwargs.items() if value is not None}
    if isinstance(given.get("weight"), Tensor) and "weight" not in accepted:
        raise ConfigError(f"--class-weights: the loss {criterion_name!r} takes no class weights; choose another loss")
    for name, value in given.items():
        if name in ("weight", "pos_weight") and isinstance(value, Tensor):
            continue
        if name not in options:
            raise ConfigError(f"--criterion-args: {unknown_name(f'argument of {criterion_name}', name, options)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            listed = ", ".join(options)
            raise ConfigError(f"--criterion-args: {name}={value!r} is not a number; {criterion_name} takes {listed}")
    return create(**given)


def balanced_class_weights(
    labels: Tensor | NDArray[np.int64], num_classes: int, sample_weight: NDArray[np.float64] | None = None
) -> Tensor:
    """Return weights (num_classes,) with which all classes count the same; 0 for a class without samples.

    `labels` (samples,) are class numbers. The formula is that of scikit-learn's class_weight="balanced":
    samples / (classes with samples * samples of the class), where samples are counted by `sample_weight` (samples,).
    """
    numbers = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    counts = np.bincount(numbers, sample_weight, minlength=num_classes)
    weights = np.zeros(num_classes)
    present = counts > 0
    total = len(numbers) if sample_weight is None else sample_weight.sum()
    weights[present] = total / (present.sum() * counts[present])
    return torch.from_numpy(weights).float()
