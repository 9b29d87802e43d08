"""Less and less GPU memory: batches are split, and nothing else happens; cold, warm and resumed runs split alike."""

import gc
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.commands import Training, draw_images
from benchmarks.gpu_parts.networks import batch_of, start, trainer_of

SHARES = {"tiny": (0.4,), "short": (0.6, 0.2), "long": (0.8, 0.6, 0.4, 0.25, 0.15, 0.08)}  # of what the batch needs
SIDES = {"tiny": 64, "short": 160, "long": 224}  # of the images of the commands
WORKER = str(Path(__file__).with_name("memory_worker.py"))
MIB = 1 << 20
SLACK = 48 * MIB  # the allocator reserves 20 MiB at once


def sweeps(form: str) -> tuple["Sweep", ...]:
    """Return the sweeps of a form."""
    return {
        "tiny": (Sweep("TinyModel", "fp32", 256, 64),),
        "short": (Sweep("resnet18", "fp16", 128, 128),),
        "long": (
            Sweep("resnet18", "fp16", 256, 224),
            Sweep("resnet50", "fp32", 128, 224),
            Sweep("vit_b_16", "fp16", 64, 224),
        ),
    }[form]


def run(check: Check) -> None:
    """Compare cold, warm and resumed commands first, then sweep."""
    device = start(check.device)
    compare_commands(check)
    for sweep in check.while_time(sweeps(check.form), 8):
        sweep_limits(check, device, sweep)


@dataclass(frozen=True)
class Sweep:
    """A network in training; it takes two steps, as the optimizer's state exists from the second one on."""

    model: str
    precision: str
    batch: int
    side: int  # of the images, in pixels

    def __str__(self) -> str:
        return f"{self.model} {self.precision}, batches of {self.batch} at {self.side} x {self.side}"


@dataclass(frozen=True)
class Needed:
    """The bytes that a sweep reserved, those that stay whatever the batch, and its micro-batches or its error."""

    most: int
    fixed: int
    parts: int
    error: str = ""


def sweep_limits(check: Check, device: torch.device, sweep: Sweep) -> None:
    """Train with all memory, then with what stays and a share of the rest."""
    free = train_within(device, None, sweep)
    check.holds(f"{sweep}: runs with all memory", free.parts == 1, free.error or f"{free.most // MIB} MiB")
    parts = [free.parts]
    for share in check.while_time(SHARES[check.form], 3, str(sweep)):
        limit = free.fixed + int(share * max(0, free.most - free.fixed))
        found = train_within(device, limit, sweep)
        # A single image that does not fit is a sentence, as promised.
        fine = not found.error or found.error.startswith("DeviceError")
        check.holds(f"{sweep} in {limit // MIB} MiB", fine, found.error or f"{found.parts} micro-batches")
        parts.append(found.parts)
    check.holds(f"{sweep}: less memory splits the batch", max(parts) > 1, f"{max(parts)} micro-batches at most")


def train_within(device: torch.device, limit: int | None, sweep: Sweep) -> Needed:
    """Take two steps with at most `limit` bytes of GPU memory."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total) if limit else 1.0)
    size, fixed, parts, error_text = (sweep.side, sweep.side), 0, 0, ""
    try:
        trainer = trainer_of(device, model=sweep.model, precision=sweep.precision, resize=size, ema_decay=0.9)
        batch = batch_of(device, sweep.batch, size)
        for step in range(2):
            trainer.step(batch, 0, step)
        torch.cuda.synchronize()
        parts = trainer.micro_batches.count
        fixed = torch.cuda.memory_allocated() + SLACK  # weights, gradients, state of the optimizer, average, images
    except Exception as error:
        error_text = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return Needed(torch.cuda.max_memory_reserved(), fixed, parts, error_text)


def compare_commands(check: Check) -> None:
    """Run train.py in a little less memory than network and decoded images need together: cold, warm and resumed."""
    side = SIDES[check.form]
    flags = (
        f"--model TinyModel --epochs 3 --batch-size 28 --val-ratio 0.34 --valid-batch-size 28 --resize {side} {side} "
    )
    flags += f"--optimizer SGD --precision fp16 --threads 2 --device {check.device}"
    with tempfile.TemporaryDirectory() as scratch_name, ThreadPoolExecutor(2) as pool:
        scratch = Path(scratch_name)
        images = draw_images(scratch / "images", 12 if check.form == "tiny" else 48)
        free = Training(scratch / "free", images, flags, program=(WORKER, "0"))
        try:
            free.finish(check.seconds_left)
            store = 7 * len(list(images.iterdir())) * side * side * 3  # bytes
            limit = max(0, reserved_by(free) - store // 2)
            program = (WORKER, str(limit))
            runs = {
                name: Training(scratch / name, images, flags, scratch / "store" if name != "resumed" else None, program)
                for name in ("cold", "warm", "resumed")
            }
            killed = pool.submit(runs["resumed"].kill, 3, check.seconds_left)
            runs["cold"].finish(check.seconds_left)
            check.holds("killed after the third step", killed.result())
            for done in [pool.submit(runs[name].finish, check.seconds_left) for name in ("warm", "resumed")]:
                done.result()
        except RuntimeError as error:
            check.holds(f"train.py in little memory: {error}", False)
            return
        found = {name: parts_of(each) for name, each in runs.items()}
        check.note("train.py alone: MiB, of which decoded images", f"{reserved_by(free) // MIB}, {store // MIB}")
        for name in ("warm", "resumed"):
            same = found[name] == found["cold"]
            check.holds(
                f"micro-batches in {limit // MIB} MiB, {name}", same, str(found[name]), f"cold: {found['cold']}"
            )


def reserved_by(training: Training) -> int:
    """Return the most bytes that a run of memory_worker.py had reserved."""
    (line,) = [line for line in training.log.splitlines() if line.startswith("reserved: ")]
    return int(line.split()[1])


def parts_of(training: Training) -> dict[str, Any]:
    """Return the micro-batches of training and validation, from the newest checkpoint."""
    newest = max((training.folder / "checkpoints").glob("step-*.pt"))
    parts: dict[str, Any] = torch.load(newest, weights_only=True, map_location="cpu")["trainer"]["parts"]
    return parts
