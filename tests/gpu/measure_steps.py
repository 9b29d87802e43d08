"""What the third step of an epoch calls, for many options of training; test_gpu_waits.py runs this on the stand-in.

    python measure_steps.py DATA OUTPUT '[{"precision": "fp16"}, ...]'

Each row holds options of TrainConfig. The last line of the output starts with STEPS: for each row, how often the third
step of the first epoch and that of the second called what, from the beginning of the step to that of the fourth. So the
loop around the step belongs to it.
"""

import gc
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import train
from config import TrainConfig
from gpu.standin.run import counters_now
from support.trainers import PLAIN
from training.build import build_trainer
from training.inputs import Data, read_data
from training.trainer import Trainer

GPU = torch.device("cuda")
THIRD = 2


@contextmanager
def counted_steps() -> Iterator[dict[tuple[int, int], Counter[str]]]:
    """Yield a mapping that gets the counters at the beginning of each step (epoch, step)."""
    found: dict[tuple[int, int], Counter[str]] = {}
    step = Trainer.step

    def counting(trainer: Trainer, batch: Any, epoch: int, steps_done: int) -> Any:
        found[epoch, batch.step] = counters_now()
        return step(trainer, batch, epoch, steps_done)

    with mock.patch.object(Trainer, "step", counting):
        yield found


def third_steps(config: TrainConfig, data: Data, output: Path) -> list[dict[str, int]]:
    """Train two epochs as the command does; return what the third step of each called."""
    train.seed_everything(config.seed, config.deterministic)
    trainer = build_trainer(
        config,
        data.scheme,
        data.augmentation,
        GPU,
        steps_per_epoch=len(data.train_loader),
        class_weights=data.class_weights,
    )
    run = train.create_run(config, data, trainer, output, None)
    with run.tracker, counted_steps() as begun:
        for _ in range(config.epochs):
            run.train_epoch(data.train_loader)
            run.end_epoch(data.val_loader)
        run.wait()
    return [dict(begun[epoch, THIRD + 1] - begun[epoch, THIRD]) for epoch in range(config.epochs)]


def main() -> None:
    folder, output = map(Path, sys.argv[1:3])
    always = replace(PLAIN, epochs=2, log_interval=1, device="cuda", checkpoint_seconds=1e9, threads=1, lr=1e-3)
    rows: list[Mapping[str, Any]] = json.loads(sys.argv[3])

    found = []
    for row in rows:
        config = replace(always, **row)
        found.append(third_steps(config, read_data(folder, config, GPU), output))
        gc.collect()  # no row depends on what the rows before have left on the GPU
        torch.cuda.empty_cache()
    print("\nSTEPS", json.dumps(found))


if __name__ == "__main__":
    main()
