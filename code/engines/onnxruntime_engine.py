"""The network of a model.onnx, computed by onnxruntime on the CPU. No torch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from data.images import Pixels
from engines.engine import ends
from engines.onnx_metadata import IMAGES, PROBABILITIES, check_metadata
from runtime.errors import ConfigError, ModelError, reason_of


class OnnxRuntimeEngine:
    """A function from prepared images (batch, height, width, 3) uint8 to probabilities (batch, classes) float32."""

    device = "cpu"

    def __init__(
        self, model: bytes, expected: Mapping[str, str], threads: int, path: Path, precision: str = "fp32"
    ) -> None:
        """Load a model.onnx; raise ModelError if it cannot be loaded, or its metadata is not what is expected.

        It computes on `threads` threads, which sleep while they wait for each other. Messages name its `path`. Raises
        ConfigError for a precision that onnxruntime does not have.
        """
        if precision not in ("fp32", "auto"):
            raise ConfigError(f"onnxruntime computes in fp32 only, got precision {precision!r}; use openvino or torch")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many types
            raise ModelError(f"{path.name} cannot be loaded ({reason_of(error)}); run make export: {path}") from None
        check_metadata(self._session.get_modelmeta().custom_metadata_map, expected, path)

    def batch_sizes(self, most: int) -> tuple[int, ...]:
        """Return the smallest and the largest size: memory is planned for each."""
        return ends(most)

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared uint8 images (batch, height, width, 3)."""
        found: NDArray[np.float32] = self._session.run([PROBABILITIES], {IMAGES: pixels})[0]
        return found
