"""What the outputs of a network mean to one kind of label scheme: probabilities, decisions in training, the loss.

    outputs = outputs_of(scheme)
    outputs.activation(logits, 1.0)  # softmax, or sigmoid

Whatever handles logits asks this object instead of the scheme's kind (labelling.py has what comes after the logits).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labelling.losses import BinaryCrossEntropyLoss, BinaryFocalLoss
from labels import MULTI, SINGLE, LabelScheme
from loss import create_checked, create_criterion, criterion_entrypoint
from predictor import to_probabilities
from runtime.errors import ConfigError

_SEVERAL: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": BinaryCrossEntropyLoss,
    "focal": BinaryFocalLoss,
}


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network (images, classes) for one kind of scheme.

    `decide` returns the labels of training images in the form of the ground truth, `create_criterion` a loss by its
    name in --criterion, with the weights of the classes and its arguments, and `entrypoint` the class of that loss.
    """

    name: str  # of the activation
    activation: Callable[[Tensor, float], Tensor]  # of logits and a temperature
    decide: Callable[[Tensor], Tensor]
    create_criterion: Callable[[str, Tensor | None, Mapping[str, Any]], nn.Module]
    entrypoint: Callable[[str], Callable[..., nn.Module]]


def _one_criterion(name: str, class_weights: Tensor | None, arguments: Mapping[str, Any]) -> nn.Module:
    return create_criterion(name, **{"weight": class_weights, **arguments})


def _several_entrypoint(name: str) -> Callable[..., nn.Module]:
    criterion_entrypoint(name)  # a name that no loss has is answered as ever
    if name not in _SEVERAL:
        raise ConfigError(
            f"--criterion {name} is for one label of each image, and these have several; pass {' or '.join(_SEVERAL)}"
        )
    return _SEVERAL[name]


def _several_criterion(name: str, class_weights: Tensor | None, arguments: Mapping[str, Any]) -> nn.Module:
    return create_checked(_several_entrypoint(name), name, {"pos_weight": class_weights, **arguments})


def _sigmoid(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).sigmoid()


ONE_LABEL = Outputs("softmax", to_probabilities, lambda logits: logits.argmax(1), _one_criterion, criterion_entrypoint)
_OUTPUTS = {
    SINGLE: ONE_LABEL,
    MULTI: Outputs(
        "sigmoid", _sigmoid, lambda logits: (logits > 0).to(torch.int64), _several_criterion, _several_entrypoint
    ),
}


def outputs_of(scheme: LabelScheme) -> Outputs:
    """Return what the outputs of a network for a scheme mean."""
    return _OUTPUTS[scheme.kind]
