"""The model behind the server: loaded from a folder that may be hostile, called with batches of prepared images.

Only `model.safetensors` and `model.json` are read: no pickle, no archive, no link. Anything else is a ModelError before
the server reports that it is ready.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from data.images import Pixels
from description import DESCRIPTION, Description
from model_files import MAX_BYTES, MAX_DESCRIPTION_BYTES, WEIGHTS, find, load
from predictor import Predictor
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process, select_device, select_dtype
from runtime.errors import JobError, ModelError
from runtime.files import existing_folder
from runtime.process import cpu_count
from server.settings import ServeConfig


class Classifier:
    """A function from pixels (batch, height, width, 3) to probabilities (batch, classes), as in code/inference.py."""

    def __init__(self, config: ServeConfig) -> None:
        """Load the model; raise ModelError if it cannot be used."""
        self.cpus = config.threads or cpu_count()
        configure_process(self.cpus)
        use_deterministic_kernels(True, gradients=False)
        self.device = select_device(config.device)
        model, description, self.digest = read_model(config.model_dir)
        self.scheme, self.preparation = description.scheme, description.preparation
        self.name = f"{description.architecture}, {self.scheme.num_classes} classes"
        dtype = select_dtype(config.precision, self.device)
        self._predictor = Predictor(model, self.preparation, self.device, dtype, tta=config.tta)
        self._config = config

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared images (batch, height, width, 3)."""
        return self._predictor.probabilities(pixels)

    def warm_up(self) -> None:
        """Run one batch of each size that the device meets, so that no client waits for memory and kernels.

        Call this in the thread that calls the model: libraries keep what they prepare for each thread. Raises
        ModelError if the model returns NaN or infinity.
        """
        for size in self._predictor.batch_sizes(self._config.batch_size):
            probabilities = self(np.zeros((size, *self.preparation.size, 3), np.uint8))
            if probabilities.shape != (size, self.scheme.num_classes) or not np.isfinite(probabilities).all():
                folder = self._config.model_dir
                raise ModelError(f"the model returns NaN or infinity for a test image; train again: {folder}")


def read_model(folder: Path) -> tuple[nn.Module, Description, str]:
    """Return the network, its description and a digest of both; raise ModelError for any other folder."""
    existing_folder(folder, "SM_MODEL_DIR", f"{WEIGHTS} and {DESCRIPTION}")
    found = find(folder)
    if not found.is_dir():
        raise ModelError(f"serving reads {WEIGHTS} and {DESCRIPTION} only, found {found.name}; train again: {found}")
    for name, most in ((WEIGHTS, MAX_BYTES), (DESCRIPTION, MAX_DESCRIPTION_BYTES)):
        if (found / name).is_symlink():
            raise ModelError(f"{name} is a link, expected a regular file; copy what it points to: {found}")
        if (found / name).is_file() and (found / name).stat().st_size > most:
            raise ModelError(f"{name} is larger than the {most} bytes allowed: {found}")
    try:
        model, description = load(found)
    except JobError as error:
        raise ModelError(str(error)) from None
    return model, description, hashlib.sha256((found / DESCRIPTION).read_bytes()).hexdigest()
