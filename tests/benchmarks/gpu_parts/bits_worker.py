"""One of the two processes of bits.py: DEVICE FILE SECONDS ITEMS; writes a line of JSON for each item."""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.networks import batch_of, digest, size_of, start, trainer_of

BATCH = 16
MAY_OVERFLOW = 10  # the first steps in fp16 are skipped until the loss scale fits


def main() -> None:
    device_name, file, seconds, items = sys.argv[1:]
    ends, slowest, device = time.monotonic() + float(seconds), 0.0, start(device_name)
    with Path(file).open("a") as lines:
        for item in json.loads(items):
            started = time.monotonic()
            if ends - started < slowest:
                break
            lines.write(json.dumps(done(device, **item)) + "\n")
            lines.flush()
            slowest = max(slowest, time.monotonic() - started)
            gc.collect()
            torch.cuda.empty_cache()


def done(device: torch.device, model: str, precision: str, steps: int) -> dict[str, Any]:
    """Take the steps of an item; returns its line, with the type and the text of an error."""
    found = {"item": f"{model} {precision}, {steps} steps", "digest": "", "moved": False, "error": ""}
    try:
        found |= take_steps(device, model, precision, steps)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
    return found


def take_steps(device: torch.device, model: str, precision: str, steps: int) -> dict[str, Any]:
    """Train with everything that has a state or is random; SGD in fp16, where steps are skipped, else AdamW."""
    trainer = trainer_of(
        device,
        model=model,
        precision=precision,
        resize=size_of(model),
        augmentation="StrongAugmentation",
        mixup=0.2,
        ema_decay=0.9,
        clip_norm=1.0,
        optimizer="SGD" if precision == "fp16" else "AdamW",
    )
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    losses = [trainer.step(batch_of(device, BATCH, size_of(model), step), 0, step)[0] for step in range(steps)]
    moved = any(not torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True))
    moved |= precision == "fp16" and steps < MAY_OVERFLOW
    return {"digest": digest(trainer, losses), "moved": moved and bool(torch.stack(losses).isfinite().all())}


if __name__ == "__main__":
    main()
