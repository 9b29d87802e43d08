"""An overflow of fp16 in one part, on one worker: all skip the step and halve the scale of the loss.

The twin is one worker with GradScaler. The workers are threads, and the CPU computes in fp16.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from data.loader import Batch
from support.trainers import first_batch, trainer_of, without_dropout
from support.worker_threads import run_workers
from training.inputs import Data
from training.trainer import Trainer
from training.workers import Workers

PARTS, BAD_PART, BAD_STEP, SCALE = 4, 2, 1, 256.0


@dataclass
class Seen:
    """The scale, and a number that changes with any bit of weights, statistics, optimizer and average, per step."""

    scales: list[float]
    weights: list[list[Tensor]]
    checksums: list[int]


def steps(trainer: Trainer, worker: Workers, batch: Batch, *, overflows: bool) -> Seen:
    """Take three steps; in the second one the scaled gradient of a single part gets an infinity, if `overflows`."""
    trainer = replace(trainer, workers=worker)
    trainer.scaler = GradScaler("cpu", init_scale=SCALE)
    add, parameters = trainer.part_sum.add, list(trainer.model.parameters())
    seen, step = Seen([], [], []), 0

    def add_infinity(part: int, loss: Tensor, predicted: Tensor, rows: slice) -> None:
        if overflows and (step, part) == (BAD_STEP, BAD_PART):
            assert parameters[-1].grad is not None
            parameters[-1].grad[0] = float("inf")
        add(part, loss, predicted, rows)

    trainer.part_sum.add = add_infinity  # type: ignore[method-assign]
    for step in range(3):
        trainer.step(replace(batch, step=step), 0, step)
        seen.scales.append(trainer.scaler.get_scale())
        seen.weights.append([parameter.detach().clone() for parameter in parameters])
        seen.checksums.append(trainer.checksum())
    return seen


def run(size: int, data: Data, overflows: bool = True, **options: Any) -> list[Seen]:
    """Return what each of `size` workers sees."""
    batch = first_batch(data)
    trainers = [without_dropout(trainer_of(data, parts=PARTS, **options)) for _ in range(size)]  # threads share a seed
    for trainer in trainers:
        trainer.dtype = torch.float16
    return run_workers(size, lambda worker: steps(trainers[worker.rank], worker, batch, overflows=overflows))


@pytest.mark.parametrize(("optimizer", "clip_norm"), [("SGD", 0.0), ("AdamW", 1.0)], ids=["plain", "fused and clipped"])
def test_an_overflow_in_one_part_skips_the_step_on_all_workers_and_halves_the_scale(
    optimizer: str, clip_norm: float, data: Data
) -> None:
    (alone,) = run(1, data, optimizer=optimizer, clip_norm=clip_norm)
    assert alone.scales == [SCALE, SCALE / 2, SCALE / 2]
    first, second, third = (torch.cat([tensor.flatten() for tensor in weights]) for weights in alone.weights)
    assert torch.equal(first, second), "the step is skipped"
    assert not torch.equal(second, third), "the next one is taken"
    for size in (2, PARTS + 1):  # one more than there are parts has none
        for found in run(size, data, optimizer=optimizer, clip_norm=clip_norm):
            assert (found.scales, found.checksums) == (alone.scales, alone.checksums)


def test_without_an_overflow_every_step_is_taken(data: Data) -> None:
    for found in run(2, data, overflows=False):
        assert found.scales == [SCALE] * 3
        assert len(set(found.checksums)) == 3
