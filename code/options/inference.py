"""Every option and every folder of inference, as config.py has those of training. No torch, no pandas."""

from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import folder, option

TTA, TTA_HELP = ("none", "flip"), "test-time augmentation; flip: mean of the image and its mirror image, twice the work"
ANSWERS, ANSWERS_HELP = ("index", "name"), "what the column of predictions holds: numbers or names of classes"
STATUS_HELP = "extra column with the status of each image: ok, unsure (see --min-precision of train), or an error"


@dataclass(frozen=True, kw_only=True)
class InferencePaths:
    """Folders that inference reads and writes."""

    data_dir: Path = folder("SM_CHANNEL_EVAL", "/opt/ml/input/data/eval", "images to label, with info.csv or without")
    model_dir: Path = folder("SM_CHANNEL_MODEL", "./model", "model folder, its parent, or a model.tar.gz")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "folder for output.csv")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Options of inference."""

    batch_size: int = option(256, "images per step", minimum=1, maximum=1_000_000)
    resize: tuple[int, int] | None = option(
        None, "height and width of the training images, only for an old best.pth", minimum=8, maximum=2048
    )
    model: str | None = option(None, "architecture, only for an old best.pth (BaseModel)")
    answers: str = option("index", ANSWERS_HELP, choices=ANSWERS)
    save_probabilities: bool = option(False, "extra columns with the probability of each class")
    status: bool = option(False, STATUS_HELP)
    on_bad_image: str = option(
        "skip",
        "policy for an image that cannot be read: stop, or leave its row without a prediction",
        choices=("error", "skip"),
    )
    precision: str = option(
        "fp32",
        "number format of the forward pass; auto is faster, fp32 is the same on every machine",
        choices=("fp32", "bf16", "fp16", "auto"),
    )
    tta: str = option("none", TTA_HELP, choices=TTA)
    device: str = option("auto", "device to compute on", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "processes that decode images, 0 for one per CPU", minimum=0, maximum=256)
    decode_seconds: float = option(
        5.0, "CPU time in seconds that decoding an image may take", minimum=0.1, maximum=3600
    )
    decode_memory_mb: int = option(1024, "memory in MiB that decoding an image may take", minimum=64, maximum=1_048_576)
