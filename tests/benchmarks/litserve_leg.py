"""The leg `litserve` of bench_serve.py: LitServe as in its documentation, with batching.

It has a file of its own because LitServe starts processes that import the class by name.
"""

import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from data.images import prepare
from server.classifier import Classifier
from server.settings import ServeConfig


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Images as base64 in JSON, because LitServe takes no raw bodies."""

    def setup(self, device: str) -> None:
        self.classifier = Classifier(ServeConfig(model_dir=Path(sys.argv[1]), device="cpu"))

    def decode_request(self, request: dict[str, str]) -> Any:
        return prepare(base64.b64decode(request["image"]), self.classifier.preparation)

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, pixels: Any) -> Any:
        return self.classifier(pixels)

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"prediction": int(output.argmax()), "probability": float(output.max())}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002, api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/ping")
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
