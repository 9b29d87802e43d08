"""Two workers that share the GPU, with gloo, against one: the same bits. And what parts cost a worker that is alone."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.commands import Training, draw_images
from benchmarks.gpu_parts.networks import batch_of, start, trainer_of
from benchmarks.gpu_parts.speed import CASES, SMALL, Case, measure, repeated

# Batch norm, every random draw, and what only a whole batch has: clipping, scaling and the average.
RUNS = {
    "TinyModel": "--model TinyModel --augmentation StrongAugmentation --ema-decay 0.9 --mixup 0.2 --head factored "
    "--optimizer AdamW --clip-norm 1 --precision auto",
    "resnet18": "--model resnet18 --augmentation CustomAugmentation --cutmix 1 --sampler balanced --optimizer SGD "
    "--precision fp16",
}
COUNTS = {"tiny": 1, "short": 1, "long": len(RUNS)}
PARTS = (1, 2, 4)
PEOPLE, EPOCHS, BATCH = 12, 2, 14  # 56 images to train on, 4 steps an epoch


def run(check: Check) -> None:
    """Compare the bits first, then measure."""
    with tempfile.TemporaryDirectory() as scratch:
        images = draw_images(Path(scratch) / "images", PEOPLE)
        for name in check.while_time(list(RUNS)[: COUNTS[check.form]], 15, "two workers,"):
            compare(check, name, Path(scratch), images)
    device = start(check.device)
    for case in check.while_time(CASES["tiny"] if check.form == "tiny" else SMALL, 12, "parts,"):
        measure_parts(check, device, case)


def compare(check: Check, name: str, scratch: Path, images: Path) -> None:
    """Judge one training: by one worker and by two, both in four parts."""
    flags = f"{RUNS[name]} --epochs {EPOCHS} --batch-size {BATCH} --resize 64 48 --val-ratio 0.34 --parts 4 "
    flags += f"--device {check.device} --threads 2"
    one = Training(scratch / f"{name}-1", images, flags)
    two = Training(scratch / f"{name}-2", images, f"{flags} --nproc-per-node 2")
    try:
        for training in (one, two):
            training.finish(check.seconds_left)
    except RuntimeError as error:
        check.holds(f"{name}: one worker and two", False, str(error))
        return
    check.holds(f"{name}: two workers started", "2 workers on this host" in two.log)
    judge(check, name, one.digests(), two.digests())


def judge(check: Check, name: str, one: tuple[str, str], two: tuple[str, str]) -> None:
    """Judge the sha256 of model and metrics that one worker left and two did."""
    shown = " ".join(one) if one == two else f"{two} against {one}"
    check.computes(f"{name}: two workers", one == two, shown, "equal to one")


def measure_parts(check: Check, device: torch.device, case: Case) -> None:
    """Take steps on a batch that stays on the device, in one part and in several; images per second have no bar."""
    batch = batch_of(device, case.batch, case.size)
    trainers = {
        parts: trainer_of(device, model=case.model, precision="bf16", resize=case.size, parts=parts) for parts in PARTS
    }
    legs: dict[str, Callable[[], int]] = {
        f"{parts} part{'s' * (parts > 1)}": lambda trainer=trainer: repeated(trainer, batch, case.steps)  # type: ignore[misc]
        for parts, trainer in trainers.items()
    }
    rates = measure(check, device, f"one worker, {case}", legs)
    whole = rates["1 part"]
    for name, rate in rates.items():
        if name != "1 part":
            check.note(f"one worker, {case}: {name} / 1 part", rate / whole)
