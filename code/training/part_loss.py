"""The loss of a part of a batch, so that those of all parts add up to the loss of the whole batch."""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data.loader import Batch
from data.mixing import Mixer
from loss import ImageLoss


def part_loss(
    criterion: nn.Module, mixer: Mixer, logits: Tensor, batch: Batch, rows: slice, draws: Mapping[str, Tensor]
) -> Tensor:
    """Return what the images at `rows` of a batch, mixed as drawn, with `logits` (rows, classes), add to its loss, ().

    Images are mixed within a part; the weight of an image stays with its label.
    """
    losses = []
    if batch.weights is None:
        for labels, lam in mixer.targets(batch.labels[rows], draws):
            found: Tensor = criterion(logits, labels)
            losses.append(found if lam is None else lam * found)
        loss = functools.reduce(torch.add, losses)
        return loss * _share(criterion, batch.labels, rows) if len(logits) < len(batch.labels) else loss
    total = _total(criterion, batch.labels, batch.weights)
    pairs = zip(mixer.targets(batch.labels[rows], draws), mixer.targets(batch.weights[rows], draws), strict=True)
    for (labels, lam), (weights, _) in pairs:
        found = (weights * _per_image(criterion, logits, labels)).sum() / total
        losses.append(found if lam is None else lam * found)
    return functools.reduce(torch.add, losses)


def whole_loss(criterion: nn.Module, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the loss () of images that are not mixed: logits (images, classes), weights (images,) if they have any."""
    if weights is None:
        found: Tensor = criterion(logits, labels)
        return found
    return (weights * _per_image(criterion, logits, labels)).sum() / _total(criterion, labels, weights)


def _share(criterion: nn.Module, labels: Tensor, rows: slice) -> Tensor | float:
    """Return the share of a batch with `labels` (batch,) that a part has in its mean loss.

    With class weights the mean divides by their sum, so a part counts as much as the weights in it. Only the F1 loss
    is no mean over images: there the result is the mean over parts.
    """
    weight = getattr(criterion, "weight", None)  # (classes,)
    if weight is None:
        return len(labels[rows]) / len(labels)
    weights: Tensor = weight[labels]
    return weights[rows].sum() / weights.sum()


def _per_image(criterion: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each image, (images,), times the weight of its class."""
    assert isinstance(criterion, ImageLoss), "inputs.py has looked"
    return criterion.per_image(logits, labels)


def _total(criterion: nn.Module, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the weights of all images, each times that of its class, (); never 0, which divides."""
    weight = getattr(criterion, "weight", None)  # (classes,)
    total = weights.sum() if weight is None else (weights * weight[labels]).sum()
    return total.clamp(min=torch.finfo(torch.float32).tiny)
