"""Every option and every folder of the audit, as config.py has those of training. No torch, no pandas."""

from dataclasses import dataclass
from pathlib import Path

from config import DATASETS
from runtime.arguments import folder, option


@dataclass(frozen=True, kw_only=True)
class AuditPaths:
    """Folders that the audit reads and writes."""

    data_dir: Path = folder("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train/images", "images to train on")
    validation_dir: Path | None = folder("SM_CHANNEL_VALIDATION", None, "images to validate with")
    eval_dir: Path | None = folder("SM_CHANNEL_EVAL", None, "images to label")
    labels_dir: Path | None = folder("SM_CHANNEL_LABELS", None, "a *.manifest; default: beside the images to train on")
    model_dir: Path = folder("SM_CHANNEL_MODEL", "./model", "trained model, for suspected labels")
    output_dir: Path = folder(
        "SM_OUTPUT_DATA_DIR", "./output", "folder of the run folders, for split.csv, and of oof.csv"
    )
    audit_dir: Path | None = folder(
        "SM_AUDIT_DIR", None, "folder for audit.html and audit.csv; default: audit in the output folder"
    )


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Options of the audit."""

    dataset: str = option("auto", "layout of the labelled folders; auto: what each looks like", choices=DATASETS)
    min_side: int = option(32, "pixels of the shorter side below which an image is tiny", minimum=1, maximum=100_000)
    max_ratio: float = option(
        4.0, "ratio of the longer to the shorter side above which a shape is extreme", minimum=1, maximum=1e6
    )
    min_images: int = option(10, "images below which a class has few", minimum=0, maximum=1_000_000)
    device: str = option("auto", "device to compute on", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "processes that decode images, 0 for one per CPU", minimum=0, maximum=256)
    decode_seconds: float = option(
        5.0, "CPU time in seconds that decoding an image may take", minimum=0.1, maximum=3600
    )
    decode_memory_mb: int = option(1024, "memory in MiB that decoding an image may take", minimum=64, maximum=1_048_576)
