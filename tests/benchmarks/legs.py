"""Legs of a benchmark that take turns, what they cost, and the images that they go through."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from support.processes import descendants


def draw_images(folder: Path, people: int, names: int) -> Path:
    """Draw profile folders with seven JPEGs of 384 x 512 each, of 45 kB, which is usual for that size.

    There are `names` folders; those after the first `people` are links to the first ones, which saves drawing.
    """
    stems = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
    for person in range(names):
        profile = folder / f"{person:06}_{('male', 'female')[person % 2]}_Asian_{(25, 45, 60)[person // 2 % 3]}"
        profile.mkdir(parents=True)
        for index, stem in enumerate(stems):
            if person >= people:
                twin = next(folder.glob(f"{person % people:06}_*"))
                os.link(twin / f"{stem}.jpg", profile / f"{stem}.jpg")
                continue
            random = np.random.default_rng([person, index])
            coarse = Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((384, 512), Image.Resampling.BICUBIC)).astype(np.float32)
            noise = random.normal(0, 4, (512, 384, 1)).astype(np.float32)
            Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(profile / f"{stem}.jpg", quality=90)
    return folder


@dataclass
class Rate:
    """Images per second over the rounds: median, (maximum - minimum) / median, and the median per second of CPU."""

    wall: float
    spread: float
    cpu: float


class Bench:
    """Legs that take turns; each returns how many images it went through."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rounds = device, rounds
        self.legs: dict[str, Callable[[], int]] = {}

    def run(self) -> dict[str, Rate]:
        """Run all legs `rounds` times after a warm-up."""
        found = defaultdict(list)
        for turn in range(self.rounds + 1):
            for name, leg in self.legs.items():
                started, cpu_started = time.perf_counter(), cpu_seconds()
                count = leg()
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:  # the first round warms up
                    found[name].append((count / (time.perf_counter() - started), count / (cpu_seconds() - cpu_started)))
        return {name: self._rate(*zip(*rates, strict=True)) for name, rates in found.items()}

    def _rate(self, wall: tuple[float, ...], cpu: tuple[float, ...]) -> Rate:
        median = statistics.median(wall)
        return Rate(median, (max(wall) - min(wall)) / median, statistics.median(cpu))


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all that it started: workers of a DataLoader, decoding processes."""
    total = 0
    for pid in ["self", *descendants(os.getpid())]:
        with contextlib.suppress(OSError):  # its time, and that of its children that have ended
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def show(title: str, rates: dict[str, Rate], ratios: list[tuple[str, str, str, float]]) -> None:
    """Print the rates, then the ratios (text, leg, leg it is divided by, target or 0)."""
    print(f"\n{title:<42}  images/s    spread   per CPU-second")
    for name, rate in rates.items():
        print(f"  {name:<40} {rate.wall:9.0f} {rate.spread:9.0%} {rate.cpu:16.0f}")
    print(f"{'  ratio':<42} {'wall':>9} {'target':>9} {'per CPU-second':>16}")
    for text, above, below, target in ratios:
        wall, cpu = rates[above].wall / rates[below].wall, rates[above].cpu / rates[below].cpu
        shown = f"{target:g} {'+' if wall >= target else '-'}" if target else ""
        print(f"  {text:<40} {wall:9.2f} {shown:>9} {cpu:16.2f}", flush=True)


@dataclass
class Done:
    """The cost and the output of a process that ended."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def timed(arguments: list[str], environ: dict[str, str]) -> Done:
    """Run Python with `arguments` and wait for it."""
    started = time.perf_counter()
    line = [sys.executable, *arguments]
    with subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}:\n{output}")
    seconds = time.perf_counter() - started
    return Done(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)
