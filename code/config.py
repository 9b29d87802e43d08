"""Every option and every folder of the verbs: name, default, meaning, legal values. No torch, no pandas.

This file alone defines flags. The names that a registry knows stand here as literals, so that `--help` and a typo
are answered before torch is imported; a test keeps both lists equal.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.arguments import folder, option
from runtime.conversion import Value

DATASETS = ("MaskSplitByProfileDataset", "MaskBaseDataset", "ImageFolderDataset")
AUGMENTATIONS = ("BaseAugmentation", "CustomAugmentation", "StrongAugmentation")
CRITERIA = ("cross_entropy", "focal", "label_smoothing", "f1")
SCHEDULES = ("step", "cosine", "onecycle", "constant")
# Options that may differ between a run and the one that goes on from its checkpoint: no bit depends on them.
MAY_DIFFER = (
    *("name", "log_interval", "resume", "checkpoint_seconds", "checkpoint_steps", "threads", "store_memory"),
    *("on_bad_image", "max_bad_ratio"),
)
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


@dataclass(frozen=True, kw_only=True)
class TrainPaths:
    """Folders that training reads and writes."""

    data_dir: Path = folder("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train/images", "images to learn from")
    model_dir: Path = folder("SM_MODEL_DIR", "./model", "where the finished model goes")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "where run folders (exp, exp2, ...) go")
    checkpoint_dir: Path | None = folder(
        "SM_CHECKPOINT_DIR", None, "where checkpoints go; default: into the run folder"
    )
    pretrained_dir: Path | None = folder(
        "SM_CHANNEL_PRETRAINED", None, "weights to start from, one .pth or .safetensors"
    )
    store_dir: Path | None = folder(
        "SM_STORE_DIR",
        None,
        "where decoded images are kept for the next job; default: nowhere",
        also="SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY",
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train."""

    # the data
    dataset: str = option("MaskSplitByProfileDataset", "how the folder is read and split", choices=DATASETS)
    val_ratio: float = option(0.2, "share of the people kept for validation", above=0, below=1)
    fold: str | None = option(None, "validate on part k of n equal parts instead, such as 1/5")
    seed: int = option(
        42, "the same seed gives the same split, order, augmentation and weights", minimum=0, below=2**32
    )
    on_bad_image: str = option(
        "error", "stop at an image that cannot be read, or leave it out", choices=("error", "skip")
    )
    max_bad_ratio: float = option(0.01, "with skip: stop if more than this share cannot be read", minimum=0, maximum=1)
    # the image
    resize: tuple[int, int] = option(
        (128, 96), "height and width that the model sees, in pixels", minimum=8, maximum=2048
    )
    crop: tuple[int, int] | None = option(
        None, "centre crop before resizing; default: the augmentation's own", minimum=8
    )
    augmentation: str = option("BaseAugmentation", "random changes to training images", choices=AUGMENTATIONS)
    augmentation_args: dict[str, Value] = option({}, "arguments of the augmentation, such as noise=0.05")
    statistics: str = option(
        "original",
        "mean and std to normalise with; original: those of the original pipeline's data",
        choices=("original", "imagenet", "dataset"),
        old_values={"seed": "original"},
    )
    mixup: float = option(0.0, "mixup: alpha of the Beta distribution, 0 switches it off", minimum=0)
    cutmix: float = option(0.0, "CutMix: alpha of the Beta distribution, 0 switches it off", minimum=0)
    cutmix_shape: str = option("box", "what CutMix pastes: a box, or a vertical strip", choices=("box", "strip"))
    # the model
    model: str = option("BaseModel", "BaseModel, MyModel, TinyModel or any classifier of torchvision, such as resnet18")
    head: str = option(
        "joint", "one output per class, or per value of each task and summed", choices=("joint", "factored")
    )
    pretrained: str = option(
        "auto", "weights to start from: a file, none, download (needs a network), or auto (the `pretrained` channel)"
    )
    ema_decay: float = option(
        0.0, "keep a moving average of the weights, such as 0.99; 0 switches it off", minimum=0, below=1
    )
    # the loss
    criterion: str = option("cross_entropy", "loss to minimise", choices=CRITERIA)
    criterion_args: dict[str, Value] = option({}, "arguments of the loss, such as gamma=1.5")
    class_weights: str = option("none", "weigh the loss by class", choices=("none", "balanced"))
    sampler: str = option(
        "shuffle", "every image once an epoch, or classes equally often", choices=("shuffle", "balanced")
    )
    # the steps
    epochs: int = option(1, "passes over the training images", minimum=1)
    batch_size: int = option(64, "images per step", minimum=1)
    valid_batch_size: int = option(1000, "images per validation step", minimum=1)
    parts: int = option(
        1,
        "micro-batches that each batch is split into, to fit into memory; the f1 loss is then their mean",
        minimum=1,
        old_names=("accumulate",),
    )
    optimizer: str = option("SGD", "optimizer of torch.optim", choices=OPTIMIZERS)
    lr: float = option(1e-3, "peak learning rate", above=0)
    momentum: float = option(0.9, "momentum of SGD and RMSprop", minimum=0, below=1)
    weight_decay: float = option(5e-4, "weight decay", minimum=0)
    clip_norm: float = option(0.0, "largest norm of the gradient, 0 for no limit", minimum=0)
    schedule: str = option("step", "how the learning rate falls", choices=SCHEDULES)
    lr_decay_step: int = option(20, "step schedule: halve the learning rate every so many epochs", minimum=1)
    warmup_epochs: float = option(0.0, "epochs over which the learning rate rises from zero", minimum=0)
    precision: str = option("auto", "number format of the forward pass", choices=("auto", "fp32", "bf16", "fp16"))
    # the choice of the best, and when to stop
    metric: str = option("f1", "what the best epoch is best at", choices=("f1", "accuracy"))
    patience: int = option(0, "stop after so many epochs without a better one, 0 for never", minimum=0)
    # the run
    name: str = option("exp", "name of the run folder; exp2, exp3, ... if it exists")
    log_interval: int = option(20, "steps between two TensorBoard points", minimum=1)
    resume: str = option("auto", "go on from the newest checkpoint", choices=("auto", "never", "force"))
    checkpoint_seconds: float = option(300.0, "seconds between checkpoints within an epoch", minimum=0)
    checkpoint_steps: int = option(0, "steps between checkpoints within an epoch, 0 for the seconds alone", minimum=0)
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "threads that decode images, 0 for one per CPU", minimum=0, maximum=256)
    store_memory: float = option(
        0.5, "share of the free memory that decoded images may take; more goes to a file", minimum=0, maximum=1
    )
    deterministic: bool = option(True, "the same bits in every run, for some speed on a GPU")

    def problems(self) -> list[str]:
        """What is wrong with the options taken together, one sentence each."""
        problems = []
        if self.parts > self.batch_size:
            problems.append(f"--parts: {self.parts} parts of a batch of {self.batch_size} images would be empty")
        if self.warmup_epochs > self.epochs:
            problems.append(f"--warmup-epochs: {self.warmup_epochs:g} is more than the {self.epochs} epochs of the run")
        if self.fold is not None and _fold(self.fold) is None:
            problems.append(f"--fold: {self.fold!r} is not k/n with 1 <= k <= n and n >= 2, such as 1/5")
        if not self.name or "/" in self.name or self.name.startswith("."):
            problems.append(f"--name: {self.name!r} is not the name of a folder")
        return problems

    def fingerprint(self) -> dict[str, Any]:
        """Return the options that the result depends on, as JSON; a run is resumed only with the same ones."""
        options = {name: value for name, value in asdict(self).items() if name not in MAY_DIFFER}
        return dict(json.loads(json.dumps(options)))

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """(k, n) of `--fold k/n`, or None."""
        return None if self.fold is None else _fold(self.fold)


def _fold(text: str) -> tuple[int, int] | None:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        return None
    return (int(part), int(parts)) if 1 <= int(part) <= int(parts) >= 2 else None


@dataclass(frozen=True, kw_only=True)
class InferencePaths:
    """Folders that inference reads and writes."""

    data_dir: Path = folder("SM_CHANNEL_EVAL", "/opt/ml/input/data/eval", "images to label, with info.csv or without")
    model_dir: Path = folder("SM_CHANNEL_MODEL", "./model", "model folder, its parent, or a model.tar.gz")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "where output.csv goes")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How to label images."""

    batch_size: int = option(256, "images per step", minimum=1)
    resize: tuple[int, int] | None = option(
        None, "only for an old best.pth: height and width it was trained at", minimum=8
    )
    model: str | None = option(None, "only for an old best.pth: the class it was trained as (BaseModel)")
    save_probabilities: bool = option(False, "add one column per class with its probability")
    status: bool = option(False, "add a column that says which images could not be read")
    on_bad_image: str = option(
        "skip", "stop at an image that cannot be read, or give its row no answer", choices=("error", "skip")
    )
    precision: str = option(
        "fp32",
        "number format of the forward pass; auto is faster, fp32 agrees everywhere",
        choices=("fp32", "bf16", "fp16", "auto"),
    )
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "threads that decode images, 0 for one per CPU", minimum=0, maximum=256)


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
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "where evaluation.json goes")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How to compare labels with the truth."""

    legacy_format: bool = option(
        False, "print macro F1 as the original pipeline did: not times 100, yet with a percent sign"
    )
    bootstrap: int = option(1000, "resamples behind the standard deviations, 0 for none", minimum=0, maximum=100_000)
    persons: str | None = option(None, "csv file with ImageID and id, to resample people instead of images")
    seed: int = option(42, "seed of the resampling", minimum=0, below=2**32)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Draw a data set of faces in the layout of the competition."""

    output_dir: Path = option(Path("./demo"), "folder to draw into: train/, eval/ and gt/")
    people: int = option(160, "people to train on", minimum=18, maximum=1_000_000)
    eval_people: int = option(
        0, "people to evaluate on; 0 for half as many as to train on", minimum=0, maximum=1_000_000
    )
    proportions: str = option("balanced", "how gender and age are spread", choices=("balanced", "competition"))
    seed: int = option(42, "the same seed draws the same images", minimum=0, below=2**32)
    threads: int = option(0, "processes that draw, 0 for one per CPU", minimum=0, maximum=256)
    contact_sheet: Path | None = option(None, "image of one face per class to draw instead, .jpg or .png")
