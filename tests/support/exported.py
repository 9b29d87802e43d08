"""A tiny model that is exported once for all tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.onnx_metadata import metadata
from labels import MASKED_FACES
from model_folder import sha256
from support.serving import publish_model

if TYPE_CHECKING:
    from engines.onnxruntime_engine import OnnxRuntimeEngine


@dataclass(frozen=True)
class Exported:
    """The folders of an exported model: its own, and its golden pack."""

    model: Path
    golden: Path

    @property
    def onnx(self) -> Path:
        return self.model / "model.onnx"

    @property
    def identity(self) -> dict[str, str]:
        return self.identity_with("none")

    def identity_with(self, tta: str) -> dict[str, str]:
        """Return the metadata that belongs to the two other files of the model."""
        weights, description = ((self.model / name).read_bytes() for name in ("model.safetensors", "model.json"))
        return metadata(sha256(weights), description, MASKED_FACES.classes, tta)

    def engine(self, tta: str = "none") -> "OnnxRuntimeEngine":
        from engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(self.onnx.read_bytes(), self.identity_with(tta), 1, self.onnx)


def export_tiny(folder: Path) -> Exported:
    """Publish a tiny model and export it."""
    from exporting.onnx_export import export  # here, as only some tests need it, and it takes a second

    model = publish_model(folder / "model")
    export(model, folder / "golden")
    return Exported(model, folder / "golden")
