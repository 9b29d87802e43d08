"""The settings of the server, one environment variable each, because SageMaker gives a server nothing else.

On a laptop the flag works too: SERVE_PRECISION=bf16 and `--precision bf16` are the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from engines.engine import ENGINES
from options.inference import TTA, TTA_HELP
from runtime.arguments import folder, option
from runtime.errors import unknown_name
from sagemaker_limits import BATCH_TRANSFORM_MB, DEFAULT_PAYLOAD_MB

REQUESTS_PER_CPU = 8  # concurrent: enough for batches that pay, while other images are decoded
MOST_WAITING = 16_384  # the pipe to the decoding processes holds no more (slot_board.py)


def setting(variable: str, help: str, **accepted: Any) -> Mapping[str, Any]:
    """Return the metadata of a field that an environment variable fills; `accepted` as for `option`."""
    return {**option(None, help, **accepted).metadata, "variable": variable, "also": ""}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a model over HTTP."""

    model_dir: Path = folder("SM_MODEL_DIR", "/opt/ml/model", "folder with model.safetensors and model.json")
    host: str = field(default="0.0.0.0", metadata=setting("SERVE_HOST", "address to listen on"))  # noqa: S104
    port: int = field(
        default=8080,
        metadata=setting("SAGEMAKER_BIND_TO_PORT", "port to listen on, 0 for any free one", minimum=0, maximum=65535),
    )
    max_payload_mb: int = field(
        default=DEFAULT_PAYLOAD_MB,
        metadata=setting(
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "largest body in MB, 0 for SageMaker's limit (100)",
            minimum=0,
            maximum=BATCH_TRANSFORM_MB,
        ),
    )
    batch: bool = field(default=False, metadata=setting("SAGEMAKER_BATCH", "whether this is a batch transform job"))
    bad_input: str = field(
        default="row",
        metadata=setting(
            "BAD_INPUT",
            "result of a bad image in batch transform: a row with the error, or a failed job",
            choices=("row", "fail"),
        ),
    )
    engine: str = field(
        default="torch",
        metadata=setting(
            "SERVE_ENGINE", "library that computes; all but torch need model.onnx of make export", choices=ENGINES
        ),
    )
    precision: str = field(
        default="fp32",
        metadata=setting(
            "SERVE_PRECISION",
            "number format of the forward pass; bf16 is about twice as fast, fp32 agrees everywhere to 1e-5",
            choices=("fp32", "bf16", "fp16", "auto"),
        ),
    )
    tta: str = field(default="none", metadata=setting("SERVE_TTA", TTA_HELP, choices=TTA))
    device: str = field(
        default="auto", metadata=setting("SERVE_DEVICE", "device of the model", choices=("auto", "cpu", "cuda"))
    )
    batch_size: int = field(
        default=32, metadata=setting("SERVE_BATCH_SIZE", "most images in one model call", minimum=1, maximum=4096)
    )
    max_waiting: int = field(
        default=128,
        metadata=setting(
            "SERVE_MAX_WAITING", "most concurrent requests; others get a 503", minimum=1, maximum=MOST_WAITING
        ),
    )
    threads: int = field(
        default=0,
        metadata=setting(
            "SERVE_THREADS",
            "processes that decode images, and threads of the model on a CPU; 0 for one per CPU",
            minimum=0,
            maximum=256,
        ),
    )
    decode_seconds: float = field(
        default=5.0,
        metadata=setting(
            "SERVE_DECODE_SECONDS",
            "CPU time in seconds that decoding an image may take",
            minimum=0.1,
            maximum=3600,
        ),
    )
    decode_memory_mb: int = field(
        default=640,  # so that the server stays below 1.5 GB; of 50 megapixels, only WebP needs more (768)
        metadata=setting(
            "SERVE_DECODE_MEMORY_MB",
            "memory in MiB that decoding an image may take",
            minimum=64,
            maximum=1_048_576,
        ),
    )
    receive_seconds: float = field(
        default=10.0,
        metadata=setting(
            "SERVE_RECEIVE_SECONDS", "longest time for a request to arrive, in seconds", above=0, maximum=3600
        ),
    )

    @property
    def payload_mb(self) -> int:
        """Return the largest body in MB; SageMaker sends 0 for no limit, which is its own limit then."""
        return self.max_payload_mb or BATCH_TRANSFORM_MB

    @property
    def max_payload_bytes(self) -> int:
        return self.payload_mb << 20

    @property
    def bad_images_get_rows(self) -> bool:
        """Return whether a bad image is a row and not an error, which would fail the whole transform job."""
        return self.batch and self.bad_input == "row"

    def execution_parameters(self, device: str, cpus: int) -> dict[str, int | str]:
        """Return what batch transform asks for; a GPU gets one batch for the model and one that is on its way."""
        wanted = 2 * self.batch_size if device == "cuda" else REQUESTS_PER_CPU * cpus
        most = max(1, BATCH_TRANSFORM_MB // self.payload_mb)
        return {
            "MaxConcurrentTransforms": min(wanted, self.max_waiting, most),
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": self.payload_mb,
        }


def unknown_settings(variables: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that is named like a setting, and is none."""
    known = [field.metadata["variable"] for field in fields(ServeConfig)]
    wrong = [name for name in variables if name.startswith("SERVE_") and name not in known]
    return [unknown_name("setting", name, known) for name in sorted(wrong)]
