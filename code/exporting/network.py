"""The network as it is exported: from prepared uint8 images to probabilities, with everything in between inside."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.images import Pixels
from description import Description
from labelling.outputs import outputs_of
from predictor import VIEWS


class ExportedNetwork(nn.Module):
    """Maps prepared images (batch, height, width, 3) uint8 to probabilities (batch, classes) float32.

    `normalise` and `classify` are its two halves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, description: Description, tta: str = "none") -> None:
        """Wrap a network that maps normalised images (batch, 3, height, width) to logits (batch, classes).

        The probabilities are the mean over the views of test-time augmentation; `tta` is a name in predictor.VIEWS.
        """
        super().__init__()
        self.model, self.temperature = model, description.temperature
        self._outputs = outputs_of(description.scheme)
        self._activation = self._outputs.activation
        self._views = VIEWS[tta]
        self.register_buffer("mean", torch.tensor(description.preparation.mean))
        self.register_buffer("std", torch.tensor(description.preparation.std))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std as float32, (batch, height, width, 3) as the images."""
        return images.float() * (1 / (255 * self.std)) - self.mean / self.std

    def classify(self, normalised: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of normalised images (batch, height, width, 3)."""
        return torch.stack([self._activation(self.logits(view(normalised)), 1.0) for view in self._views]).mean(0)

    def logits(self, normalised: Tensor) -> Tensor:
        """Return the logits (batch, classes), divided by the temperature, of normalised (batch, height, width, 3)."""
        logits: Tensor = self.model(normalised.permute(0, 3, 1, 2))
        return logits.float() / self.temperature

    @torch.inference_mode()
    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared images (batch, height, width, 3)."""
        found: NDArray[np.float32] = self(torch.from_numpy(pixels.copy())).numpy()
        return found

    @torch.inference_mode()
    def of_normalised(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of normalised images (batch, height, width, 3)."""
        found: NDArray[np.float32] = self.classify(torch.from_numpy(normalised.copy())).numpy()
        return found

    @torch.inference_mode()
    def mistaken(self, normalised: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return what mistakes after the network give instead of probabilities (batch, classes), by their name."""
        logits = self.logits(torch.from_numpy(normalised.copy()))
        twice, what = self._activation(self._activation(logits, 1.0), 1.0), self._outputs.name
        found = {f"the {what} is left out": logits, f"the {what} is applied twice": twice}
        return {name: values.numpy() for name, values in found.items()}
