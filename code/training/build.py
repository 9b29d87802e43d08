"""The trainer that the options of a run name, and the weights that it starts from."""

from pathlib import Path

import torch
from torch import Tensor, nn

from augmentation import BaseAugmentation
from config import TrainConfig
from data.mixing import Mixer
from labels import LabelScheme
from loss import create_criterion
from model import create_model, download_pretrained, load_pretrained
from optimization import ExponentialMovingAverage, create_optimizer, create_schedule
from runtime.devices import select_dtype, to_device
from runtime.memory import Release, nothing_to_release
from training.trainer import Trainer
from training.workers import Workers


def build_trainer(
    args: TrainConfig,
    scheme: LabelScheme,
    augmentation: BaseAugmentation,
    device: torch.device,
    *,
    steps_per_epoch: int,
    class_weights: Tensor | None = None,
    pretrained_dir: Path | None = None,
    release: Release = nothing_to_release,
    workers: Workers | None = None,
) -> Trainer:
    """Create what the options name: network, loss, optimizer, schedule, mixing, moving average.

    `release` gives back memory of the device that the trainer needs more, before batches are split.
    Raises ConfigError for options that do not fit together, ModelError for weights to start from that do not fit.
    """
    model = create_model(args.model, scheme, head=args.head, size=args.resize)
    if workers is None or workers.is_first:  # the others get its weights
        start_from_pretrained(model, args.model, args.pretrained, pretrained_dir)
    model = to_device(model, device)
    return Trainer(
        model=model,
        criterion=_create_criterion(args, class_weights).to(device),
        optimizer=create_optimizer(
            args.optimizer, model, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
        ),
        schedule=create_schedule(
            args.schedule,
            steps_per_epoch=steps_per_epoch,
            epochs=args.epochs,
            lr_decay_step=args.lr_decay_step,
            warmup_epochs=args.warmup_epochs,
        ),
        augmentation=augmentation,
        mixer=Mixer(args.mixup, args.cutmix, args.cutmix_shape),
        average=ExponentialMovingAverage(model, args.ema_decay) if args.ema_decay else None,
        device=device,
        dtype=select_dtype(args.precision, device),
        seed=args.seed,
        peak_lr=args.lr,
        clip_norm=args.clip_norm,
        parts=max(1, args.parts),
        release=release,
        workers=workers or Workers(),
    )


def _create_criterion(args: TrainConfig, class_weights: Tensor | None) -> nn.Module:
    """Create the loss; without weights first, so that a wrong argument is not taken for a loss without weights."""
    plain = create_criterion(args.criterion, **args.criterion_args)
    if class_weights is None:
        return plain
    return create_criterion(args.criterion, weight=class_weights, **args.criterion_args)


def start_from_pretrained(model: nn.Module, name: str, pretrained: str, pretrained_dir: Path | None) -> None:
    """Apply `--pretrained` to the network of `--model name`: the channel, a file, a download, or nothing.

    Raises ModelError for weights that do not fit.
    """
    if pretrained == "none" or (pretrained == "auto" and pretrained_dir is None):
        return
    if pretrained == "download":
        loaded = download_pretrained(model, name)
    else:
        source = pretrained_dir if pretrained == "auto" and pretrained_dir else Path(pretrained)
        loaded = load_pretrained(model, source, name)
    print(f"pretrained: {loaded}", flush=True)
