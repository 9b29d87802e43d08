"""Every folder of the export, as config.py has those of training. No torch."""

from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import folder


@dataclass(frozen=True, kw_only=True)
class ExportPaths:
    """Folders that the export reads and writes."""

    model_dir: Path = folder("SM_MODEL_DIR", "./model", "model folder, for model.onnx too")
    golden_dir: Path = folder("SM_GOLDEN_DIR", "./golden", "folder for the golden pack")
