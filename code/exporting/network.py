"""The network as it is exported: from prepared uint8 images to probabilities, with everything in between inside."""

import torch
from torch import Tensor, nn

from description import Description


class ExportedNetwork(nn.Module):
    """Maps prepared images (batch, height, width, 3) uint8 to probabilities (batch, classes) float32.

    `normalise` and `classify` are its two halves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, description: Description) -> None:
        """Wrap a network that maps normalised images (batch, 3, height, width) to logits (batch, classes)."""
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(description.preparation.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(description.preparation.std).view(3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std as float32 (batch, 3, height, width)."""
        return images.permute(0, 3, 1, 2).float() * (1 / (255 * self.std)) - self.mean / self.std

    def classify(self, normalised: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of normalised images (batch, 3, height, width)."""
        logits: Tensor = self.model(normalised)
        return logits.float().softmax(1)
