"""Every option and every folder of training: name, default, help, accepted values. No torch, no pandas.

Those of the other commands are in options/, those of the demo in faces/options.py. The names in registries are repeated
here as literals, so that `--help` and typos are answered before torch is imported; a test compares both lists.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes import AUTO, RECIPES, describe, options_of
from runtime.arguments import folder, option
from runtime.conversion import Value

DATASETS = (
    "auto",
    "MaskSplitByProfileDataset",
    "MaskBaseDataset",
    "ImageFolderDataset",
    "SplitFolderDataset",
    "LabelTableDataset",
    "ManifestDataset",
)
AUGMENTATIONS = ("BaseAugmentation", "CustomAugmentation", "StrongAugmentation", "TrivialAugment", "RandAugment")
TASKS = ("auto", "single", "multilabel")
FITS = ("stretch", "crop", "pad")
CRITERIA = ("cross_entropy", "focal", "label_smoothing", "f1")
SCHEDULES = ("step", "cosine", "onecycle", "constant")
# Options that may differ when a run is resumed: no bit depends on them.
MAY_DIFFER = (
    *("name", "recipe", "log_interval", "resume", "checkpoint_seconds", "checkpoint_steps", "threads", "store_memory"),
    *("allow_leaks", "on_bad_image", "max_bad_ratio", "decode_seconds", "decode_memory_mb", "nproc_per_node"),
    "pretrained",  # the weights themselves are compared
)
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


@dataclass(frozen=True, kw_only=True)
class TrainPaths:
    """Folders that training reads and writes."""

    data_dir: Path = folder("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train/images", "images to train on")
    model_dir: Path = folder("SM_MODEL_DIR", "./model", "folder for the trained model")
    output_dir: Path = folder("SM_OUTPUT_DATA_DIR", "./output", "folder for run folders (exp, exp2, ...)")
    checkpoint_dir: Path | None = folder(
        "SM_CHECKPOINT_DIR", None, "folder for checkpoints; default: in the run folder"
    )
    validation_dir: Path | None = folder(
        "SM_CHANNEL_VALIDATION", None, "images to validate with; default: split off the training images"
    )
    labels_dir: Path | None = folder("SM_CHANNEL_LABELS", None, "a *.manifest; default: beside the images to train on")
    pretrained_dir: Path | None = folder(
        "SM_CHANNEL_PRETRAINED", None, "weights to start from: one .pth or .safetensors, or a model of this job"
    )
    store_dir: Path | None = folder(
        "SM_STORE_DIR",
        None,
        "folder of the store cache, decoded images for the next job; default: no cache",
        also="SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY",
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of training."""

    recipe: str = option(
        "original",
        "set of options, listed below; auto: that of the run to resume, else finetune with weights to start from, else "
        "scratch",
        choices=(*RECIPES, AUTO),
    )
    # the data
    dataset: str = option(
        "auto", "layout of the folder, and how it is split; auto: what it looks like", choices=DATASETS
    )
    task: str = option("auto", "labels of an image: one, or any number; auto: what they look like", choices=TASKS)
    val_ratio: float = option(0.2, "share of the people to validate with", above=0, below=1)
    fold: str | None = option(None, "part k of n equal parts to validate with instead, such as 1/5")
    seed: int = option(42, "random seed of split, order, augmentation and weights", minimum=0, below=2**32)
    allow_leaks: bool = option(False, "people, groups and images in both parts of a given split are accepted")
    on_bad_image: str = option(
        "error", "policy for an image that cannot be read: stop, or leave it out", choices=("error", "skip")
    )
    max_bad_ratio: float = option(0.01, "with skip: largest share of images that may be left out", minimum=0, maximum=1)
    # the image
    resize: tuple[int, int] = option(
        (128, 96), "height and width of the images that the model gets, in pixels", minimum=8, maximum=2048
    )
    crop: tuple[int, int] | None = option(
        None, "centre crop before resizing; default: the augmentation's own", minimum=8, maximum=100_000
    )
    fit: str = option(
        "stretch",
        "how an image of another shape, after --crop, gets the size of --resize: distorted, cut off, or padded",
        choices=FITS,
    )
    augmentation: str = option("BaseAugmentation", "random changes to training images", choices=AUGMENTATIONS)
    augmentation_args: dict[str, Value] = option({}, "arguments of the augmentation, such as noise=0.05")
    statistics: str = option(
        "auto",
        "mean and std of the normalisation; original: those of the original pipeline; auto: those of the weights to "
        "start from, without weights those of the original",
        choices=("auto", "original", "imagenet", "dataset"),
        old_values={"seed": "original"},
    )
    mixup: float = option(0.0, "alpha of the Beta distribution of mixup, 0 for no mixup", minimum=0, maximum=1000)
    cutmix: float = option(0.0, "alpha of the Beta distribution of CutMix, 0 for no CutMix", minimum=0, maximum=1000)
    cutmix_shape: str = option("box", "shape of the CutMix patch: a box, or a vertical strip", choices=("box", "strip"))
    # the model
    model: str = option(
        "BaseModel",
        "architecture: BaseModel, MyModel, TinyModel, any classifier of torchvision, such as resnet18, or of timm, "
        "such as timm/convnext_tiny.dinov3_lvd1689m",
    )
    head: str = option(
        "joint",
        "outputs: one for each class, or one for each value of each task, summed",
        choices=("joint", "factored"),
    )
    pretrained: str = option(
        "auto", "weights to start from: a file, none, download (needs a network), or auto (the `pretrained` channel)"
    )
    drop_path: float | None = option(
        None,
        "probability of leaving out the last residual block, falling to 0 for the first; default: the network's own",
        minimum=0,
        below=1,
    )
    ema_decay: float = option(
        0.0, "decay of the moving average of the weights, such as 0.99; 0 for no average", minimum=0, below=1
    )
    # the loss
    criterion: str = option("cross_entropy", "loss to minimise", choices=CRITERIA)
    criterion_args: dict[str, Value] = option({}, "arguments of the loss, such as gamma=1.5")
    class_weights: str = option("none", "class weights of the loss", choices=("none", "balanced"))
    sampler: str = option(
        "shuffle", "order of the images: each once per epoch, or classes equally often", choices=("shuffle", "balanced")
    )
    # the steps
    epochs: int = option(1, "passes over the training images", minimum=1, maximum=999_999)
    batch_size: int = option(64, "images per step, of all workers together", minimum=1, maximum=1_000_000)
    valid_batch_size: int = option(1000, "images per validation step", minimum=1, maximum=1_000_000)
    parts: int = option(
        0,
        "parts of each batch, for as many workers or with less memory; 0 for one per worker at the start of the run; "
        "images are mixed and the f1 loss is computed within a part",
        minimum=0,
        maximum=1_000_000,
        old_names=("accumulate",),
    )
    optimizer: str = option("SGD", "optimizer of torch.optim", choices=OPTIMIZERS)
    lr: float = option(1e-3, "peak learning rate", above=0, maximum=1e6)
    momentum: float = option(0.9, "momentum of SGD and RMSprop", minimum=0, below=1)
    weight_decay: float = option(5e-4, "weight decay", minimum=0, maximum=1e6)
    clip_norm: float = option(0.0, "largest norm of the gradient, 0 for no limit", minimum=0, maximum=1e30)
    schedule: str = option("step", "learning-rate schedule", choices=SCHEDULES)
    lr_decay_step: int = option(
        20, "epochs after which the step schedule halves the learning rate", minimum=1, maximum=1_000_000
    )
    warmup_epochs: float = option(0.0, "epochs over which the learning rate rises", minimum=0, maximum=1_000_000)
    head_lr: float | None = option(
        None, "peak learning rate of the head; default: that of the rest", above=0, maximum=1e6
    )
    layer_decay: float = option(
        1.0, "factor of the learning rate from each block to the one before it, such as 0.75", above=0, maximum=1
    )
    freeze: str = option(
        "none",
        "blocks that are not trained: the first N, such as 5, all before the head, or none",
    )
    freeze_epochs: int = option(
        0, "epochs after which frozen blocks are trained, too; 0 for none", minimum=0, maximum=999_999
    )
    precision: str = option("auto", "number format of the forward pass", choices=("auto", "fp32", "bf16", "fp16"))
    # the choice of the best, when to stop, and which predictions are sure
    select: str = option(
        "best", "epoch whose network becomes the model: the best by --metric, or the last", choices=("best", "last")
    )
    metric: str = option("f1", "metric that selects the best epoch", choices=("f1", "accuracy"))
    patience: int = option(
        0,
        "epochs without a better score after which training stops, 0 for no early stopping",
        minimum=0,
        maximum=1_000_000,
    )
    min_precision: float = option(
        0.0,
        "precision on validation that predictions of each class need to be sure, others are unsure; 0: all are sure",
        minimum=0,
        maximum=1,
    )
    # the run
    name: str = option("exp", "name of the run folder; exp2, exp3, ... if it exists")
    log_interval: int = option(20, "steps between two TensorBoard points", minimum=1, maximum=10**9)
    resume: str = option(
        "auto",
        "resume from the newest checkpoint; force: even with different data or settings",
        choices=("auto", "never", "force"),
    )
    checkpoint_seconds: float = option(300.0, "seconds between checkpoints within an epoch", minimum=0, maximum=1e9)
    checkpoint_steps: int = option(
        0, "steps between checkpoints within an epoch, 0 for the seconds alone", minimum=0, maximum=10**9
    )
    device: str = option("auto", "device to compute on", choices=("auto", "cpu", "cuda"))
    nproc_per_node: int = option(
        0,
        "worker processes on each host, which share a batch; 0 for one per GPU, one on CPUs",
        minimum=0,
        maximum=1024,
        mistaken_names=("workers", "num_workers"),
    )
    threads: int = option(
        0,
        "processes that decode images, 0 for one per CPU",
        minimum=0,
        maximum=256,
        mistaken_names=("workers", "num_workers"),
    )
    decode_seconds: float = option(
        5.0, "CPU time in seconds that decoding an image may take", minimum=0.1, maximum=3600
    )
    decode_memory_mb: int = option(1024, "memory in MiB that decoding an image may take", minimum=64, maximum=1_048_576)
    store_memory: float = option(
        0.5, "share of the free memory that decoded images may take; more goes to a file", minimum=0, maximum=1
    )
    deterministic: bool = option(True, "same bits in every run, slower on a GPU")

    @staticmethod
    def presets(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that the recipe sets beside those that are given."""
        return options_of(given.get("recipe", "original"), given)

    @staticmethod
    def notes() -> str:
        """Return the end of `--help`."""
        return describe()

    def problems(self) -> list[str]:
        """Return one sentence for each contradiction between options."""
        problems = []
        is_open = self.recipe == AUTO  # what recipes set is checked when one is chosen, and all options are read again
        if self.parts > self.batch_size and not is_open:
            problems.append(f"--parts: {self.parts} is more than the {self.batch_size} images of a batch")
        if self.warmup_epochs > self.epochs and not is_open:
            problems.append(f"--warmup-epochs: {self.warmup_epochs:g} is more than the {self.epochs} epochs of the run")
        if self.freeze not in ("none", "all") and not self.freeze.isdecimal():
            problems.append(f"--freeze: {self.freeze!r} is not a number of blocks, all or none")
        if self.freeze_epochs and self.freeze in ("none", "0"):
            problems.append(f"--freeze-epochs: {self.freeze_epochs} has no effect without --freeze; add --freeze all")
        if self.fit == "pad" and self.statistics == "dataset":
            problems.append(
                "--statistics: dataset is computed from images that --fit pad has padded with the mean colour already; "
                "pass imagenet or original, or another --fit"
            )
        if self.patience and self.select == "last":
            problems.append(f"--patience: {self.patience} is for the best epoch, and --select is last; leave out one")
        if self.metric != "f1" and self.select == "last":
            problems.append(f"--metric: {self.metric} is for the best epoch, and --select is last; leave out one")
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
        """Return (k, n) of `--fold k/n`, or None."""
        return None if self.fold is None else _fold(self.fold)


def _fold(text: str) -> tuple[int, int] | None:
    """Return (k, n) of the text `k/n`, or None if it is not a part of several."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        return None
    return (int(part), int(parts)) if 1 <= int(part) <= int(parts) >= 2 else None
