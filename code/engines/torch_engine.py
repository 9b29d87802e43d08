"""The network of a model.safetensors, computed by torch on a GPU or the CPU."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data.images import Pixels
from labelling.outputs import outputs_of
from model_files import load
from predictor import Predictor
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process, select_device, select_dtype
from runtime.errors import JobError, ModelError


class TorchEngine:
    """A function from prepared images (batch, height, width, 3) uint8 to probabilities (batch, classes) float32."""

    def __init__(self, folder: Path, threads: int, device: torch.device, precision: str, tta: str) -> None:
        """Load the model in a folder; raise ModelError if it cannot be used, ConfigError for the precision.

        It computes on `threads` threads of the CPU. `tta` is a name in predictor.VIEWS.
        """
        try:
            model, self.description = load(folder)
        except JobError as error:
            raise ModelError(str(error)) from None
        dtype = select_dtype(precision, device)
        self.device = device.type
        preparation, temperature = self.description.preparation, self.description.temperature
        activation = outputs_of(self.description.scheme).activation
        self._predictor = Predictor(
            model, preparation, device, dtype, tta=tta, temperature=temperature, activation=activation
        )

    def batch_sizes(self, most: int) -> tuple[int, ...]:
        """Return the sizes that batches have on the device."""
        return self._predictor.batch_sizes(most)

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared uint8 images (batch, height, width, 3)."""
        return self._predictor.probabilities(pixels)


def prepare_device(name: str, threads: int) -> torch.device:
    """Set torch up for the whole process, and return the device that `name` stands for; raises ConfigError."""
    configure_process(threads)
    use_deterministic_kernels(True, gradients=False)
    return select_device(name)
