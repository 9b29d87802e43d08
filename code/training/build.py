"""The trainer that the options of a run name, with the weights that it starts from."""

import torch
from torch import Tensor, nn

from augmentation import BaseAugmentation
from config import TrainConfig
from data.mixing import Mixer
from initial_weights import InitialWeights
from labelling.outputs import Outputs, outputs_of
from labels import LabelScheme
from model import create_model
from optimization import ExponentialMovingAverage, create_optimizer, create_schedule, learning_rate_scales
from runtime.determinism import use_deterministic_attention
from runtime.devices import to_device
from runtime.memory import Release, nothing_to_release
from training.depth import depths
from training.freezing import Freezing
from training.number_format import select_training_dtype
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
    initial: InitialWeights | None = None,
    release: Release = nothing_to_release,
    workers: Workers | None = None,
) -> Trainer:
    """Create what the options name: network, loss, optimizer, schedule, mixing, moving average.

    `release` gives back memory of the device that the trainer needs more, before batches are split.
    Raises ConfigError for options that do not fit together, ModelError for weights to start from that do not fit.
    """
    model = create_model(args.model, scheme, head=args.head, size=args.resize, drop_path=args.drop_path)
    if initial:  # only the first worker has them, and the others get its weights
        print(f"pretrained: {initial.copy_into(model)}", flush=True)
    model, outputs = to_device(model, device), outputs_of(scheme)
    dtype = select_training_dtype(args.precision, device, model, args.model, args.resize)
    if args.deterministic:
        use_deterministic_attention(model, device)
    return Trainer(
        model=model,
        criterion=_create_criterion(args, outputs, class_weights).to(device),
        optimizer=create_optimizer(
            args.optimizer,
            model,
            lr=args.lr,
            momentum=args.momentum,
            weight_decay=args.weight_decay,
            scales=_scales(args, model),
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
        freezing=_freeze(args, model),
        average=ExponentialMovingAverage(model, args.ema_decay) if args.ema_decay else None,
        device=device,
        dtype=dtype,
        seed=args.seed,
        peak_lr=args.lr,
        clip_norm=args.clip_norm,
        parts=max(1, args.parts),
        release=release,
        workers=workers or Workers(),
        outputs=outputs,
    )


def _scales(args: TrainConfig, model: nn.Module) -> dict[str, float] | None:
    """Return the factors of the learning rate by the names of parameters, or None if there is one rate for all."""
    if args.layer_decay == 1 and args.head_lr is None:
        return None
    head = None if args.head_lr is None else args.head_lr / args.lr
    return learning_rate_scales(depths(model), args.layer_decay, head)


def _freeze(args: TrainConfig, model: nn.Module) -> Freezing:
    """Create what `--freeze` and `--freeze-epochs` ask for, and print what it is."""
    freezing = Freezing(model, args.freeze, args.freeze_epochs, args.model)
    if text := str(freezing):
        print(f"frozen: {text}", flush=True)
    return freezing


def _create_criterion(args: TrainConfig, outputs: Outputs, class_weights: Tensor | None) -> nn.Module:
    """Create the loss; without weights first, so that a wrong argument is not taken for a loss without weights."""
    plain = outputs.create_criterion(args.criterion, None, args.criterion_args)
    if class_weights is None:
        return plain
    return outputs.create_criterion(args.criterion, class_weights, args.criterion_args)
