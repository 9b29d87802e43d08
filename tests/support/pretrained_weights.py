"""Weights of torchvision's networks, and whether a network holds them."""

import torch
import torchvision
from torch import Tensor, nn

from labels import MASKED_FACES, LabelScheme
from model import create_model

THREE = LabelScheme("folders", ("cat", "dog", "bird"))
State = dict[str, Tensor]


def resnet18(scheme: LabelScheme = MASKED_FACES, head: str = "joint") -> nn.Module:
    return create_model("resnet18", scheme, head=head, size=(64, 48))


def imagenet(name: str = "resnet18") -> State:
    """Return weights as torchvision publishes them: with the names of the plain network, for 1,000 classes."""
    return dict(torchvision.models.get_model(name).state_dict())


def fits(model: nn.Module, state: State, prefix: str = "", but: str = "fc.") -> bool:
    own = model.state_dict()
    return all(torch.equal(own[prefix + key], state[key]) for key in state if not key.startswith(but))
