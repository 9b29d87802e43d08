"""The first epoch, which decodes the images, against a usual DataLoader of 14 workers with the same network."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_train import Training
from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.networks import start
from benchmarks.gpu_parts.speed import wait_for
from benchmarks.legs import draw_images
from config import TrainConfig
from runtime.process import cpu_count

CPUS = 16  # the bar is for a machine with as many
WORKERS = 14
FACTOR = 2.0
FOLDERS = {"tiny": (2, 12), "short": (16, 512), "long": (32, 1024)}  # people who are drawn, and folders in all
ROUNDS = {"tiny": 1, "short": 2, "long": 3}


def run(check: Check) -> None:
    """Take all steps of an epoch with both, in turn."""
    device, cpus = start(check.device), cpu_count()
    workers = WORKERS if cpus >= CPUS else max(1, cpus - 2)
    config = TrainConfig(model="resnet18", optimizer="AdamW", batch_size=64, val_ratio=0.02)
    if check.form == "tiny":
        config = TrainConfig(model="TinyModel", optimizer="AdamW", batch_size=8, val_ratio=0.1)
    with tempfile.TemporaryDirectory() as scratch:
        images = draw_images(Path(scratch) / "images", *FOLDERS[check.form])
        training = Training(config, images, Path(scratch) / "store", device, 10**9)
        usual = training.original_loader(workers)
        legs: dict[str, Callable[[], int]] = {
            "first epoch": lambda: training.ours(training.fresh(None), training.trainer),
            f"DataLoader, {workers} workers": lambda: training.original(usual, training.bare),
        }
        rates: dict[str, list[float]] = {name: [] for name in legs}
        for turn in range(ROUNDS[check.form] + 1):
            for name, leg in legs.items():
                started = time.perf_counter()
                count = leg()
                wait_for(device)
                if turn:  # the first turn warms up
                    rates[name].append(count / (time.perf_counter() - started))
    first, other = (statistics.median(found) for found in rates.values())
    for name, rate in zip(rates, (first, other), strict=True):
        check.note(f"{config.model}, {name}: images/s", round(rate))
    if cpus >= CPUS:
        check.at_least(f"{config.model}: first epoch / DataLoader", first / other, FACTOR)
    else:
        check.note(f"{config.model}: first epoch / DataLoader", first / other)
        check.skip("bar of the first epoch", f"it is for {CPUS} CPUs, here are {cpus}")
    check.holds("both went through images", first > 0 and other > 0)
