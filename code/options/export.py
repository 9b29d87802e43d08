"""Every option and every folder of the export, as config.py has those of training. No torch."""

from dataclasses import dataclass
from pathlib import Path

from options.inference import TTA, TTA_HELP
from runtime.arguments import folder, option


@dataclass(frozen=True, kw_only=True)
class ExportPaths:
    """Folders that the export reads and writes."""

    model_dir: Path = folder("SM_MODEL_DIR", "./model", "model folder, for model.onnx too")
    golden_dir: Path = folder("SM_GOLDEN_DIR", "./golden", "folder for the golden pack")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of the export."""

    tta: str = option("none", TTA_HELP, choices=TTA)
    verify: Path | None = option(None, "golden pack to verify predictions with; nothing is exported")
    predictions: Path | None = option(None, "csv file with the predictions of another implementation, for --verify")
    tolerance: float = option(1e-4, "largest difference of a probability for --verify", minimum=1e-7, maximum=0.5)

    def problems(self) -> list[str]:
        """Return a sentence for each option that does not fit the others."""
        if self.verify is None and self.predictions is not None:
            return ["--predictions needs --verify with the folder of the golden pack"]
        if self.verify is not None and self.predictions is None:
            return ["--verify needs --predictions with the csv file of the other implementation"]
        if self.verify is not None and self.tta != type(self).tta:
            return ["--tta is for an export, and --verify exports nothing; leave one of both out"]
        if self.verify is None and self.tolerance != type(self).tolerance:
            return ["--tolerance is for --verify, and an export does not use it; leave it out"]
        return []
