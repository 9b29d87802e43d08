"""Losses of images with several labels: each class is a decision of its own.

All take logits (batch, classes) and labels (batch, classes) of 0 and 1, compute in float32, and are means over images
and classes. `pos_weight` (classes,) multiplies the loss of a class where an image has it.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from loss import require_number


class BinaryCrossEntropyLoss(nn.Module):
    """torch's binary cross entropy with logits; with `label_smoothing` s, targets are s / 2 and 1 - s / 2."""

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require_number("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "at least 0 and below 1")
        self.register_buffer("pos_weight", pos_weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.per_image(logits, labels).mean()

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=self.pos_weight, reduction="none"
        ).mean(1)


class BinaryFocalLoss(nn.Module):
    """Binary cross entropy times (1 - p)^gamma, where p is the probability of what is true (Lin et al., 2017).

    It is torchvision's sigmoid_focal_loss without alpha, which `pos_weight` stands for.
    """

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        require_number("gamma", gamma, 0 <= gamma <= 100, "at least 0 and at most 100")
        self.register_buffer("pos_weight", pos_weight, persistent=False)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.per_image(logits, labels).mean()

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        signs = 1 - 2 * labels.float()
        # The probability of what is wrong; at 0 the derivative of a power below 1 would be infinite.
        wrong = (signs * logits.float()).sigmoid().clamp(min=torch.finfo(torch.float32).tiny)
        plain = functional.binary_cross_entropy_with_logits(
            logits.float(), labels.float(), pos_weight=self.pos_weight, reduction="none"
        )
        return (wrong**self.gamma * plain).mean(1)


def positive_weights(labels: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> Tensor:
    """Return images without a class per image with it, (classes,), with which both count the same; 1 if none has it.

    `labels` (images, classes) are 0 and 1. Images are counted by `sample_weight` (images,).
    """
    times = np.ones(len(labels)) if sample_weight is None else sample_weight
    positives = times @ labels
    ratios = np.divide(times.sum() - positives, positives, out=np.ones(labels.shape[1]), where=positives > 0)
    return torch.from_numpy(ratios).float()
