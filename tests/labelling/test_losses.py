"""Losses of several labels agree with torch and torchvision, and only losses of one label are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from config import CRITERIA
from labelling.losses import positive_weights
from labelling.outputs import outputs_of
from labels import MULTI, LabelScheme
from loss import ImageLoss
from runtime.errors import ConfigError

PETS = LabelScheme("pets", ("cat", "dog", "fish"), kind=MULTI)


def batch() -> tuple[Tensor, Tensor]:
    return (torch.randn(8, 3) * 3).requires_grad_(), torch.randint(2, (8, 3), dtype=torch.uint8)


def create(name: str, weights: Tensor | None = None, **arguments: Any) -> torch.nn.Module:
    return outputs_of(PETS).create_criterion(name, weights, arguments)


@pytest.mark.parametrize("weights", [None, torch.tensor((0.5, 2.0, 7.0))], ids=["plain", "weighted"])
def test_cross_entropy_of_several_labels_is_torchs_binary_one(weights: Tensor | None) -> None:
    logits, labels = batch()
    expected = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights)
    torch.testing.assert_close(create("cross_entropy", weights)(logits, labels), expected)
    smoothed = labels.float() * 0.8 + 0.1
    expected = functional.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=weights)
    torch.testing.assert_close(create("cross_entropy", weights, label_smoothing=0.2)(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_several_labels_is_torchvisions(gamma: float) -> None:
    logits, labels = batch()
    expected = sigmoid_focal_loss(logits, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(create("focal", gamma=gamma)(logits, labels), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_losses_are_means_over_images_and_finite_for_extreme_logits(name: str) -> None:
    logits, labels = batch()
    loss = create(name, torch.tensor((0.5, 2.0, 7.0)))
    assert isinstance(loss, ImageLoss)
    torch.testing.assert_close(loss.per_image(logits, labels).mean(), loss(logits, labels))
    extreme = (1e4 * logits.detach().sign()).half().requires_grad_()
    found = loss(extreme, labels)
    found.backward()
    assert found.dtype == torch.float32
    assert found.isfinite()
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()


def test_positive_weights_are_images_without_a_class_per_image_with_it() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]], np.uint8)
    assert positive_weights(labels).tolist() == pytest.approx([3, 1, 1 / 3])
    assert positive_weights(labels, np.array([2.0, 0, 1, 1])).tolist() == pytest.approx([1, 1, 1 / 3])


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"cross_entropy", "focal"}))
def test_losses_of_one_label_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--criterion {name} is for one label of each image, and these have several"):
        create(name)


@pytest.mark.parametrize("arguments", [{"gamma": 1}, {"pos_weight": 2}, {"label_smoothing": 1}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--criterion-args"):
        create("cross_entropy", **arguments)
