"""Trainers of small networks on drawn faces."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from augmentation import create_augmentation
from config import TrainConfig
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.loader import Batch
from initial_weights import InitialWeights
from training.build import build_trainer
from training.inputs import Data
from training.trainer import Trainer

CPU = torch.device("cpu")
Faces = Callable[..., Path]
PLAIN = TrainConfig(
    resize=(32, 24),
    model="TinyModel",
    batch_size=14,
    val_ratio=0.34,
    precision="fp32",
    optimizer="SGD",
    lr=0.1,
    weight_decay=0,
)


def trainer_of(data: Data, *, pretrained_dir: Path | None = None, **changes: Any) -> Trainer:
    torch.manual_seed(1)
    config = replace(PLAIN, **changes)
    augmentation = create_augmentation(config.augmentation, config.resize, ORIGINAL_MEAN, ORIGINAL_STD)
    weights = data.class_weights
    return build_trainer(
        config,
        data.scheme,
        augmentation,
        CPU,
        steps_per_epoch=2,
        class_weights=weights,
        initial=InitialWeights.read(config.model, config.pretrained, pretrained_dir),
    )


def first_batch(data: Data) -> Batch:
    return next(iter(data.train_loader.epoch(0)))


def without_dropout(trainer: Trainer) -> Trainer:
    for part in trainer.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return trainer
