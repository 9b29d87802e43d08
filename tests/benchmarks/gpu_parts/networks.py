"""Networks in training for the GPU check, random batches for them, and the hash of all that training changes."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from augmentation import create_augmentation
from benchmarks.gpu_parts.check import BLACK
from config import TrainConfig
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Pixels
from data.loader import Batch
from labels import MASKED_FACES
from runtime.determinism import use_deterministic_attention, use_deterministic_kernels
from runtime.devices import configure_process
from training.build import build_trainer
from training.trainer import Trainer

PLAIN = TrainConfig(model="TinyModel", optimizer="AdamW", lr=0.001, batch_size=64)
WIDE = {"maxvit_t": 224, "inception_v3": 96}  # side of the images that a network needs at least


def start(device: str) -> torch.device:
    """Set up this process as train.py does, and return the device."""
    configure_process()
    use_deterministic_kernels(True)
    return torch.device(device)


def use_kernels_of_train(model: nn.Module, device: torch.device) -> None:
    """Choose the kernels that train.py chooses for this network; another one may need others."""
    use_deterministic_kernels(True)
    use_deterministic_attention(model, device)


def trainer_of(device: torch.device, config: TrainConfig = PLAIN, /, **changes: Any) -> Trainer:
    """Create a network in training with PLAIN's options, or those of `config`, and changes."""
    config = replace(config, **changes)
    torch.manual_seed(config.seed)
    augmentation = create_augmentation(config.augmentation, config.resize, ORIGINAL_MEAN, ORIGINAL_STD)
    trainer = build_trainer(config, MASKED_FACES, augmentation, device, steps_per_epoch=1000)
    use_kernels_of_train(trainer.model, device)
    return trainer


def pixels_of(count: int, size: tuple[int, int], seed: int = 0) -> Pixels:
    """Return random images (count, height, width, 3), coarse enough that augmentation does not average them away.

    They are black on the stand-in, whose kernels compute nothing: what they leave in memory then is zero.
    """
    if BLACK in os.environ:
        return np.zeros((count, *size, 3), np.uint8)
    coarse = np.random.default_rng(seed).integers(
        0, 256, (count, -(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8
    )
    return coarse.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]


def batch_of(device: torch.device, count: int, size: tuple[int, int], step: int = 0) -> Batch:
    """Return a random batch on the device."""
    pixels = torch.from_numpy(pixels_of(count, size, step).copy()).to(device).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.random.default_rng(step).integers(0, 18, count)).to(device)
    return Batch(step, pixels, labels, np.arange(count))


def without_randomness(model: nn.Module) -> nn.Module:
    """Turn off dropout and stochastic depth, which each device draws differently."""
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "StochasticDepth"):
            module.p = 0.0  # type: ignore[assignment]
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def size_of(model: str) -> tuple[int, int]:
    """Return a small size of images (height, width) that a network takes."""
    side = WIDE.get(model, 64)
    return side, side


def tensors(trainer: Trainer) -> Iterator[Tensor]:
    """Yield what steps change: weights, buffers, the optimizer's state, and the moving average."""
    yield from trainer.model.state_dict().values()
    for state in trainer.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
    if trainer.average:
        yield from trainer.average.module.state_dict().values()


def digest(trainer: Trainer, losses: list[Tensor]) -> str:
    """Return the sha256 of the losses and of all that steps change."""
    found = hashlib.sha256()
    for tensor in (*losses, *tensors(trainer)):
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
