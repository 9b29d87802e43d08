"""The kernels of a training step of each network; test_gpu_networks.py runs this on the stand-in.

    python measure_networks.py NAME...

A line of the output for each network is JSON: its name, and the kernels that the second step launches in the mode that
the job trains in ("job") and in torch's strict mode ("strict"), or the error that strict mode raises instead.
"""

import json
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import torch

import train
from augmentation import create_augmentation
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.loader import Batch
from gpu.standin.run import counters_now
from labels import MASKED_FACES
from support.trainers import PLAIN
from training.build import build_trainer

GPU, SIZE, IMAGES = torch.device("cuda"), (224, 224), 2


def kernels_of_a_step(name: str, is_strict: bool) -> Counter[str]:
    """Return how often the second step of a network launches each kernel, in torch's strict mode or in the job's."""
    config = replace(PLAIN, model=name, resize=SIZE, precision="bf16", optimizer="AdamW", lr=1e-3)
    augmentation = create_augmentation(config.augmentation, SIZE, ORIGINAL_MEAN, ORIGINAL_STD)
    train.seed_everything(config.seed, config.deterministic)
    with GPU:  # weights are drawn by kernels that do nothing: drawing those of the largest networks takes long
        trainer = build_trainer(config, MASKED_FACES, augmentation, GPU, steps_per_epoch=2)
    if is_strict:
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True)
    pixels = torch.zeros((IMAGES, *SIZE, 3), dtype=torch.uint8, device=GPU).permute(0, 3, 1, 2)
    batch = Batch(0, pixels, torch.zeros(IMAGES, dtype=torch.int64, device=GPU), np.arange(IMAGES))
    trainer.step(batch, epoch=0, steps_done=0)
    before = counters_now()
    trainer.step(batch, epoch=0, steps_done=1)
    called = counters_now() - before
    return Counter({name: count for name, count in called.items() if name.startswith(("kernel ", "cudnn", "cublas"))})


def main() -> None:
    for name in sys.argv[1:]:
        found: dict[str, object] = {"name": name, "job": kernels_of_a_step(name, is_strict=False)}
        torch.cuda.empty_cache()
        try:
            found["strict"] = kernels_of_a_step(name, is_strict=True)
        except RuntimeError as error:
            found["error"] = str(error)
        torch.use_deterministic_algorithms(False)
        torch.cuda.empty_cache()
        print("NETWORK", json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
