"""Decoding in processes against decoding in threads, in the same server: `bench_serve.py --bars`.

Measured are requests/s and CPU time of the main process with `--clients`, p50 of one client alone, and seconds until
/ping is 200; with TinyModel, and with a model that sleeps 4 ms a call, as on a GPU. The legs take turns; the load
generator shares the CPUs. `--before` adds the server of another checkout, such as a worktree of a version that decoded
in threads; the bars (+ if reached) compare with that, else with threads in this server.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

from benchmarks.serve_load import drawn_images, free_ports, measure, request, wait
from data.images import Preparation
from description import Description
from labels import MASKED_FACES
from model_files import publish

ROOT = Path(__file__).resolve().parents[2]
MOST_CPU, LEAST_SPEED, LEAST_SPEED_GPU, MOST_ALONE, MOST_START = 250e-6, 1.0, 1.2, 0.0004, 0.3  # the bars


@dataclass(frozen=True)
class Found:
    """What one leg cost."""

    per_second: float  # requests
    own_cpu: float  # seconds of the main process for each request
    alone: float  # seconds
    start: float  # seconds


@contextmanager
def started(way: str, model: str, before: Path, model_dir: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a leg as a process of its own, once it is ready."""
    environ = os.environ | {
        "SM_MODEL_DIR": str(model_dir),
        "SERVE_HOST": "127.0.0.1",
        "SERVE_DEVICE": "cpu",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    line = [sys.executable, str(ROOT / "tests/benchmarks/serve_leg.py"), str(before if way == "before" else ROOT)]
    with subprocess.Popen([*line, way, model], env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            wait(port, process, 0.01)
            yield process
        finally:
            process.terminate()


def own_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, without that of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_leg(way: str, model: str, model_dir: Path, options: argparse.Namespace) -> Found:
    """Start a server, measure it, and stop it."""
    bodies = [request(body, "image/jpeg") for body in drawn_images()]
    (port,) = free_ports(1)
    began = time.monotonic()
    with started(way, model, options.before, model_dir, port) as process:
        start = time.monotonic() - began
        measure(port, bodies, options.clients, 0.5)
        before = own_cpu_seconds(process.pid)
        load = measure(port, bodies, options.clients, options.seconds)
        cpu = own_cpu_seconds(process.pid) - before
        alone = measure(port, bodies, 1, options.seconds / 2)
    return Found(load.per_second, cpu / (load.per_second * options.seconds), alone.median, start)


def compare_ways(options: argparse.Namespace) -> None:
    """Run all legs in turn and print the medians and the bars."""
    found: dict[tuple[str, str], list[Found]] = defaultdict(list)
    ways = ("processes", "threads", "before") if options.before else ("processes", "threads")
    with tempfile.TemporaryDirectory() as folder:
        description = Description("TinyModel", "joint", MASKED_FACES, Preparation((128, 96)))
        publish(Path(folder), description.build().state_dict(), description)
        for number in range(options.rounds):
            for model in ("TinyModel", "sleeping"):
                for way in ways:
                    found[way, model].append(run_leg(way, model, Path(folder), options))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(f"{'':24}{'req/s':>8}{'own CPU us':>12}{'alone ms':>10}{'start s':>9}   {options.rounds} rounds, medians")
    for (way, model), legs in found.items():
        one = middle(legs)
        print(
            f"{way:12}{model:12}{one.per_second:8.0f}{1e6 * one.own_cpu:12.0f}{1000 * one.alone:10.2f}{one.start:9.2f}"
        )
    new, old = (middle(found[way, "TinyModel"]) for way in ("processes", ways[-1]))
    new_gpu, old_gpu = (middle(found[way, "sleeping"]) for way in ("processes", ways[-1]))
    show("own CPU with a model of 4 ms, us", 1e6 * new_gpu.own_cpu, 1e6 * MOST_CPU, is_most=True)
    show("requests/s, TinyModel", new.per_second / old.per_second, LEAST_SPEED)
    show("requests/s, a model of 4 ms", new_gpu.per_second / old_gpu.per_second, LEAST_SPEED_GPU)
    show("one client alone, ms more", 1000 * (new_gpu.alone - old_gpu.alone), 1000 * MOST_ALONE, is_most=True)
    show("start, s more", new.start - old.start, MOST_START, is_most=True)


def middle(legs: Sequence[Found]) -> Found:
    """Return the median of each number."""
    names = ("per_second", "own_cpu", "alone", "start")
    return Found(*(statistics.median(getattr(leg, name) for leg in legs) for name in names))


def show(text: str, found: float, bar: float, *, is_most: bool = False) -> None:
    """Print a number and its bar."""
    reached = found <= bar if is_most else found >= bar
    print(f"  {text:36}{found:8.2f}   {'at most' if is_most else 'at least'} {bar:g} {'+' if reached else '-'}")
