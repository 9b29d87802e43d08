"""Every option and every folder of the evaluation, as config.py has those of training. No torch, no pandas."""

from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import folder, option


@dataclass(frozen=True, kw_only=True)
class EvaluationPaths:
    """Folders that evaluation reads and writes."""

    gt_dir: Path = folder(
        "SM_GROUND_TRUTH_DIR",
        "/opt/ml/input/data/ground_truth",
        "folder with gt.csv",
        also="SM_CHANNEL_GROUND_TRUTH",
    )
    pred_dir: Path | None = folder("SM_PREDICTION_DIR", None, "folder with output.csv; default: the output folder")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "folder for evaluation.json")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Options of the evaluation."""

    legacy_format: bool = option(
        False, "output of the original pipeline: macro F1 with a percent sign, but not times 100"
    )
    bootstrap: int = option(
        1000, "bootstrap resamples for the standard deviations, 0 for none", minimum=0, maximum=100_000
    )
    persons: str | None = option(
        None, "csv file with ImageID and person or id; with it, people are resampled instead of images"
    )
    seed: int = option(42, "random seed of the bootstrap", minimum=0, below=2**32)
