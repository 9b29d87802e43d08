"""The model behind the server: loaded from a folder that may be hostile, called with batches of prepared images.

Only `model.json`, `model.safetensors` and, for engines other than torch, `model.onnx` are read: no pickle, no archive,
no link. Anything else is a ModelError before the server reports that it is ready. Only its own engine imports torch.
"""

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels
from description import DESCRIPTION
from engines.engine import Loaded
from engines.exported_model import ExportedModel
from labelling.labelling import labelling_of
from model_folder import find_folder, sha256
from runtime.errors import ConfigError, ModelError
from runtime.process import cpu_count
from server.settings import ServeConfig


class Classifier:
    """A function from pixels (batch, height, width, 3) to probabilities (batch, classes), as in code/inference.py."""

    def __init__(self, config: ServeConfig) -> None:
        """Load the model; raise ModelError if it cannot be used."""
        self.cpus = config.threads or cpu_count()
        loaded = (_load_torch if config.engine == "torch" else _load_exported)(config, self.cpus)
        self._engine, self.digest = loaded.engine, loaded.digest
        self.scheme, self.preparation = loaded.description.scheme, loaded.description.preparation
        self.thresholds = loaded.description.unsure_thresholds
        self.labelling = labelling_of(self.scheme, loaded.description.thresholds)
        self.name = f"{loaded.description.architecture}, {self.scheme.num_classes} classes"
        self._config = config

    @property
    def device(self) -> str:
        """Return the kind of device: cpu or cuda."""
        return self._engine.device

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared images (batch, height, width, 3)."""
        return self._engine.probabilities(pixels)

    def warm_up(self) -> None:
        """Run one batch of each size that the device meets, so that no client waits for memory and kernels.

        Call this in the thread that calls the model: libraries keep what they prepare for each thread. Raises
        ModelError if the model returns NaN or infinity.
        """
        for size in self._engine.batch_sizes(self._config.batch_size):
            probabilities = self(np.zeros((size, *self.preparation.size, 3), np.uint8))
            if probabilities.shape != (size, self.scheme.num_classes) or not np.isfinite(probabilities).all():
                folder = self._config.model_dir
                raise ModelError(f"the model returns NaN or infinity for a test image; train again: {folder}")


def _load_torch(config: ServeConfig, cpus: int) -> Loaded:
    from engines.torch_engine import TorchEngine, prepare_device

    device = prepare_device(config.device, cpus)
    folder = find_folder(config.model_dir, "SM_MODEL_DIR")
    engine = TorchEngine(folder, cpus, device, config.precision, config.tta)
    return Loaded(engine, engine.description, sha256((folder / DESCRIPTION).read_bytes()))


def _load_exported(config: ServeConfig, cpus: int) -> Loaded:
    if config.device == "cuda":
        raise ConfigError(f"SERVE_ENGINE={config.engine} computes on the CPU only; leave SERVE_DEVICE=cuda out")
    model = ExportedModel.read(find_folder(config.model_dir, "SM_MODEL_DIR"), config.tta)
    arguments = model.data, model.expected, cpus, model.path, config.precision
    if config.engine == "onnxruntime":
        from engines.onnxruntime_engine import OnnxRuntimeEngine

        return Loaded(OnnxRuntimeEngine(*arguments), model.description, model.digest)
    from engines.openvino_engine import OpenVinoEngine

    return Loaded(OpenVinoEngine(*arguments), model.description, model.digest)
