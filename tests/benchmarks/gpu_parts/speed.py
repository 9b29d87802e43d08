"""Later epochs against their ceiling, the same network on a batch that stays on the GPU, and how busy the GPU is.

The legs of a network take turns in one process, so that a clock that changes hits all of them. Bars are ratios.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from benchmarks.bench_train import Ready
from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.networks import pixels_of, start, trainer_of, use_kernels_of_train
from data.images import Pixels
from data.loader import Batch, Loader
from data.resident_pixels import ResidentPixels
from runtime.determinism import use_deterministic_kernels
from training.trainer import Trainer


@dataclass(frozen=True)
class Case:
    """A network with its batch size, the size of its images, and the steps of a leg."""

    model: str
    batch: int
    size: tuple[int, int]
    steps: int

    def __str__(self) -> str:
        return f"{self.model}, {self.batch} at {self.size[0]} x {self.size[1]}"


SMALL = (Case("TinyModel", 64, (128, 96), 60), Case("resnet18", 64, (128, 96), 60))
CASES = {
    "tiny": (Case("TinyModel", 8, (32, 24), 4),),
    "short": (*SMALL, Case("resnet50", 128, (224, 224), 15)),
    "long": (
        *SMALL,
        Case("resnet50", 128, (224, 224), 25),
        Case("efficientnet_b0", 128, (224, 224), 25),
        Case("vit_b_16", 64, (224, 224), 25),
        Case("BaseModel", 64, (128, 96), 60),
    ),
}
PRECISIONS = {"tiny": ("bf16",), "short": ("bf16",), "long": ("bf16", "fp16", "fp32")}
ROUNDS = {"tiny": 1, "short": 3, "long": 5}
SECONDS = {"tiny": 1, "short": 12, "long": 20}  # for one more case
LONG_STEP = 0.010  # seconds; above it the loader must reach 0.95 of the ceiling, else 0.85


class MemoryStore:
    """Random images that are decoded already, and resident on a GPU; see data.loader.Store."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.pixels: Pixels = np.ascontiguousarray(pixels_of(count, size))
        self.resident = ResidentPixels()

    def prioritize(self, indices: NDArray[np.int64]) -> None:
        """All are decoded."""

    def wait(self, indices: NDArray[np.int64] | None = None) -> None:
        """All are decoded."""

    def move_to_gpu(self, device: torch.device) -> None:
        if device.type == "cuda":
            self.resident.fill(self.pixels, device)


def run(check: Check) -> None:
    """Measure each network in bf16 first, then what costs extra, then the other precisions."""
    device = start(check.device)
    seconds = SECONDS[check.form]
    for precision in PRECISIONS[check.form]:
        for case in check.while_time(CASES[check.form], seconds, precision):
            measure_network(check, device, case, precision)
        if precision == "bf16":
            for case in check.while_time(SMALL if check.form != "tiny" else CASES["tiny"], seconds, "extras of"):
                measure_extras(check, device, case)


def measure_network(check: Check, device: torch.device, case: Case, precision: str) -> None:
    """Later epochs, ceiling and non-deterministic kernels of one network."""
    title, trainer = f"{case} {precision}", trainer_of(device, model=case.model, precision=precision, resize=case.size)
    loader, resident = loader_of(device, case), resident_batch(device, case, trainer)
    bare = replace(trainer, augmentation=Ready(case.size))

    def other_kernels() -> int:
        use_deterministic_kernels(False)
        try:
            return later_epochs(trainer, loader, case.steps)
        finally:
            use_kernels_of_train(trainer.model, device)

    legs: dict[str, Callable[[], int]] = {
        "later epochs": lambda: later_epochs(trainer, loader, case.steps),
        "ceiling": lambda: repeated(bare, resident, case.steps),
        "later epochs, not deterministic": other_kernels,
    }
    rates = measure(check, device, title, legs)
    later, ceiling, fastest = rates["later epochs"], rates["ceiling"], rates["later epochs, not deterministic"]
    bar = 0.95 if case.batch / ceiling > LONG_STEP else 0.85
    check.at_least(f"{title}: later epochs / ceiling", later / ceiling, bar)
    check.at_least(f"{title}: deterministic / fastest", later / max(later, fastest), 0.75)
    busy, what = (
        busy_seconds(lambda: later_epochs(trainer, loader, case.steps), device),
        "share of a step with GPU work",
    )
    if busy:
        check.note(f"{title}: {what}", round(busy * later, 3))
    else:
        check.skip(f"{title}: {what}", "the profiler sees nothing on this device")


def measure_extras(check: Check, device: torch.device, case: Case) -> None:
    """What the moving average, fp16 with SGD, and StrongAugmentation cost, against plain bf16."""
    options: dict[str, dict[str, Any]] = {
        "plain": {"precision": "bf16"},
        "EMA": {"precision": "bf16", "ema_decay": 0.99},
        "fp16 SGD": {"precision": "fp16", "optimizer": "SGD"},
        "StrongAugmentation": {"precision": "bf16", "augmentation": "StrongAugmentation"},
    }
    if device.type != "cuda":
        del options["fp16 SGD"]
    trainers = {
        name: trainer_of(device, model=case.model, resize=case.size, **given) for name, given in options.items()
    }
    loader = loader_of(device, case)
    legs: dict[str, Callable[[], int]] = {
        name: lambda trainer=trainer: later_epochs(trainer, loader, case.steps)  # type: ignore[misc]
        for name, trainer in trainers.items()
    }
    rates = measure(check, device, f"extras of {case}", legs)
    for name in rates.keys() - {"plain", "StrongAugmentation"}:
        check.at_least(f"{case}: {name} / plain", rates[name] / rates["plain"], 0.95)
    check.note(f"{case}: StrongAugmentation / plain", rates["StrongAugmentation"] / rates["plain"])


def measure(check: Check, device: torch.device, title: str, legs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Return the median images per second of each leg; they take turns, and the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in legs}
    for turn in range(ROUNDS[check.form] + 1):
        for name, leg in legs.items():
            wait_for(device)
            started = time.perf_counter()
            count = leg()
            wait_for(device)
            if turn:
                found[name].append(count / (time.perf_counter() - started))
    rates = {name: statistics.median(each) for name, each in found.items()}
    for name, rate in rates.items():
        check.note(f"{title}, {name}: images/s", round(rate))
    return rates


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def loader_of(device: torch.device, case: Case) -> Loader:
    """Create a loader of as many images as the steps of a leg need."""
    count = case.batch * case.steps
    labels = np.random.default_rng(0).integers(0, 18, count)
    store = MemoryStore(count, case.size)
    return Loader(store, labels, np.arange(count), batch_size=case.batch, device=device, order="shuffle")


def resident_batch(device: torch.device, case: Case, trainer: Trainer) -> Batch:
    """Return a normalised batch that stays on the device."""
    batch = next(loader_of(device, replace(case, steps=1)).epoch(0))
    return replace(batch, pixels=trainer.augmentation.normalize(batch.pixels).clone())


def later_epochs(trainer: Trainer, loader: Loader, steps: int) -> int:
    """Take the steps of an epoch; returns the number of images."""
    for batch in loader.epoch(1):
        if batch.step == steps:
            break
        trainer.step(batch, 1, batch.step)
    return min(steps, len(loader)) * loader.batch_size


def repeated(trainer: Trainer, batch: Batch, steps: int) -> int:
    """Take the steps on one batch; returns the number of images."""
    for step in range(steps):
        trainer.step(batch, 1, step)
    return steps * len(batch.labels)


def busy_seconds(work: Callable[[], int], device: torch.device) -> float:
    """Return the seconds per image in which the GPU computes or copies: the union of what the profiler saw there.

    The profiler slows the host down, so its own wall time is not used. 0 where it sees nothing.
    """
    if device.type != "cuda":
        return 0.0
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        count = work()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == "CUDA"
    )
    total = end = 0.0
    for start_time, stop in spans:
        total += max(0.0, stop - max(start_time, end))
        end = max(end, stop)
    return total / 1e6 / count
