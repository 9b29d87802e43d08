"""Weights of torchvision's networks, how a network starts from some, and whether it holds them."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from initial_weights import InitialWeights
from labels import MASKED_FACES, LabelScheme
from model import create_model

THREE = LabelScheme("folders", ("cat", "dog", "bird"))
State = dict[str, Tensor]


def resnet18(scheme: LabelScheme = MASKED_FACES, head: str = "joint") -> nn.Module:
    return create_model("resnet18", scheme, head=head, size=(64, 48))


def imagenet(name: str = "resnet18") -> State:
    """Return weights as torchvision publishes them: with the names of the plain network, for 1,000 classes."""
    return dict(torchvision.models.get_model(name).state_dict())


def load_pretrained(model: nn.Module, source: Path | str, name: str) -> str:
    """Start from weights as `train.py --pretrained SOURCE --model NAME` does; return which tensors were taken."""
    weights = InitialWeights.read(name, str(source), None)
    assert weights
    return weights.copy_into(model)


def fits(model: nn.Module, state: State, prefix: str = "", but: str = "fc.") -> bool:
    own = model.state_dict()
    return all(torch.equal(own[prefix + key], state[key]) for key in state if not key.startswith(but))
