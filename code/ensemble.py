"""Several networks as one: the mean of their probabilities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data.images import Preparation


class Ensemble(nn.Module):
    """Networks whose mean probabilities are the softmax of what this one returns, so it is used like any other.

    It takes images (batch, 3, height, width) that are normalised as for the first network, normalises them again for a
    network with another mean and std, and divides the logits of each by its temperature. Tensors are called
    `networks.0.` and so on, and then as in the network.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        preparations: Sequence[Preparation],
        temperatures: Sequence[float] | None = None,
    ) -> None:
        """`preparations` and `temperatures` are those of the networks; of preparations only mean and std may differ."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._changes = [_change(preparations[0], its) for its in preparations]
        self._temperatures = temperatures or [1.0] * len(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities (batch, classes), float32."""
        found = []
        for network, change, temperature in zip(self.networks, self._changes, self._temperatures, strict=True):
            logits: Tensor = network(_renormalize(images, *change) if change else images)
            found.append((logits.float() / temperature).log_softmax(1))
        return torch.stack(found).logsumexp(0) - math.log(len(found))


def _change(ours: Preparation, its: Preparation) -> tuple[list[float], list[float]] | None:
    """Return factor and summand of each channel that turn our normalisation into another; None if they are the same."""
    if (ours.mean, ours.std) == (its.mean, its.std):
        return None
    channels = list(zip(ours.mean, ours.std, its.mean, its.std, strict=True))
    return [std / its_std for _, std, _, its_std in channels], [
        (mean - its_mean) / its_std for mean, _, its_mean, its_std in channels
    ]


def _renormalize(images: Tensor, factors: list[float], summands: list[float]) -> Tensor:
    """Return images (batch, 3, height, width) with a factor and a summand for each channel applied."""
    factor, summand = (images.new_tensor(values).view(1, 3, 1, 1) for values in (factors, summands))
    return images * factor + summand
