"""The network of a model.onnx, computed by OpenVINO on the CPU. No torch."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels
from engines.engine import ends
from engines.onnx_metadata import check_metadata
from runtime.errors import ConfigError, ModelError

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # "auto": what OpenVINO takes for this CPU


class OpenVinoEngine:
    """A function from prepared images (batch, height, width, 3) uint8 to probabilities (batch, classes) float32."""

    device = "cpu"

    def __init__(
        self, model: bytes, expected: Mapping[str, str], threads: int, path: Path, precision: str = "fp32"
    ) -> None:
        """Load a model.onnx; raise ModelError if it cannot be loaded, or its metadata is not what is expected.

        It computes on `threads` threads, which share the CPUs with the processes that decode: pinned to one, each would
        wait for what else runs there. Messages name its `path`. Raises ConfigError for fp16.
        """
        if precision == "fp16":
            raise ConfigError("precision fp16 needs a GPU, which openvino does not use here; use bf16 or fp32")
        openvino = _import_openvino()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        if precision in _PRECISIONS:
            settings["INFERENCE_PRECISION_HINT"] = _PRECISIONS[precision]
        try:
            network = openvino.Core().read_model(model)
            found = {name: str(value.value) for name, value in network.get_rt_info()["framework"].items()}
        except Exception as error:  # openvino raises RuntimeError, and KeyError for a file without metadata
            reason = (str(error).strip().splitlines() or [""])[-1][:200]
            raise ModelError(f"{path.name} cannot be loaded ({reason}); run make export: {path}") from None
        check_metadata(found, expected, path)
        self._compiled = openvino.compile_model(network, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def batch_sizes(self, most: int) -> tuple[int, ...]:
        """Return the smallest and the largest size: kernels are prepared for each."""
        return ends(most)

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared uint8 images (batch, height, width, 3)."""
        found: NDArray[np.float32] = self._request.infer([pixels], share_inputs=True)[0].copy()
        return found


def _import_openvino() -> Any:
    """Return the module openvino, without its converter, which nothing here needs.

    The converter sends a message to Google Analytics as soon as it is imported, and writes to the home folder. openvino
    imports it, and does without one that cannot be imported.
    """
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    import openvino

    return openvino
