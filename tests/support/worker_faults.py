"""Faults of one worker of a run, by name (worker_pool.py): each breaks something, and returns what mends it."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch

from data.loader import Batch
from predictor import Predictor
from runtime.errors import TrainingError
from training.checkpoint import Checkpoints
from training.trainer import Trainer
from training.workers import Workers

Mend = Callable[[], None]


def _replace(owner: Any, name: str, value: Any) -> Mend:
    original = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, original)


def nothing() -> None:
    """Mend nothing."""


def no_memory_for_a_part(rank: int) -> Mend:
    """The last worker has no memory for more than three images of the third batch of an epoch."""
    compute = Trainer._compute

    def spy(trainer: Trainer, pixels: torch.Tensor, batch: Batch, rows: slice, step: Any, *rest: Any) -> Any:
        if step[1] == 2 and len(pixels) > 3 and rank == trainer.workers.size - 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(trainer, pixels, batch, rows, step, *rest)

    return _replace(Trainer, "_compute", spy)


def no_memory_in_validation(rank: int) -> Mend:
    """The last worker has no memory for more than two images in validation."""
    forward = Predictor._forward

    def spy(predictor: Predictor, micro_batches: tuple[torch.Tensor, ...]) -> Any:
        if len(micro_batches[0]) > 2 and rank == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(predictor, micro_batches)

    return _replace(Predictor, "_forward", spy)


def one_bit(rank: int) -> Mend:
    """One bit of the weights of worker 1 is wrong after the second step."""
    step = Trainer.step

    def spy(trainer: Trainer, batch: Batch, epoch: int, steps_done: int) -> Any:
        found = step(trainer, batch, epoch, steps_done)
        if rank == 1 and steps_done == 1:
            bits = next(trainer.model.parameters()).data.view(torch.int32)
            bits[(0,) * bits.dim()] ^= 1
        return found

    return _replace(Trainer, "step", spy)


def error_in_a_step(rank: int) -> Mend:
    """Worker 1 fails in the third step."""
    step = Trainer.step

    def spy(trainer: Trainer, batch: Batch, epoch: int, steps_done: int) -> Any:
        if rank == 1 and steps_done == 2:
            raise TrainingError("a cable of worker 1 is loose")
        return step(trainer, batch, epoch, steps_done)

    return _replace(Trainer, "step", spy)


def full_disk(rank: int) -> Mend:
    """The disk of worker 0 is full when the second checkpoint is written."""
    commit, calls = Checkpoints._commit, [0]

    def spy(checkpoints: Checkpoints, *rest: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device", "checkpoints")
        return commit(checkpoints, *rest)

    return _replace(Checkpoints, "_commit", spy) if rank == 0 else nothing


def signal_in_the_third_step(rank: int) -> Mend:
    """The last worker gets SIGTERM while it computes the third step of the run."""
    return _signal_in_step(rank, 2)


def signal_in_the_sixth_step(rank: int) -> Mend:
    """The last worker gets SIGTERM while it computes the sixth step of the run."""
    return _signal_in_step(rank, 5)


def _signal_in_step(rank: int, number: int) -> Mend:
    step = Trainer.step

    def spy(trainer: Trainer, batch: Batch, epoch: int, steps_done: int) -> Any:
        if rank == trainer.workers.size - 1 and steps_done == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, batch, epoch, steps_done)

    return _replace(Trainer, "step", spy)


def not_finite(rank: int) -> Mend:
    """A part of worker 1 has an infinite loss in the third step."""
    compute, calls = Trainer._compute, [0]

    def spy(trainer: Trainer, pixels: torch.Tensor, *rest: Any) -> Any:
        calls[0] += 1
        loss, predicted = compute(trainer, pixels, *rest)
        return (loss + float("inf") if rank == 1 and calls[0] == 3 else loss), predicted

    return _replace(Trainer, "_compute", spy)


def other_processor(rank: int) -> Mend:
    """Worker 1 has another processor than the others."""
    tell = Workers.require_same

    def spy(workers: Workers, mine: dict[str, Any], *rest: Any) -> None:
        if "processor" in mine and rank == 1:
            mine = mine | {"processor": "A100"}
        tell(workers, mine, *rest)

    return _replace(Workers, "require_same", spy)
