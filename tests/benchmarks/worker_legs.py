"""Two workers of a host against one, and their ordered sum against a plain all_reduce; part of bench_train.py.

Both workers are processes on CPUs that were started as a run starts them, with gloo over loopback, each with one
OMP thread. Each leg takes whole steps on one batch in memory: augmentation, network, sum, optimizer. The time in the
sum is that of worker 0, from when all have agreed on the step to when it has the sum; an all_reduce in its place would
give other bits on another number of workers.
"""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection

import numpy as np
import torch
from torch import Tensor

from augmentation import create_augmentation
from benchmarks.legs import Bench, show
from benchmarks.train_table import ratio_with_cpu, short_name
from config import TrainConfig
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from data.loader import Batch
from labels import MASKED_FACES
from runtime.devices import configure_process, select_dtype
from support.worker_pool import free_port, torchrun_variables
from training.build import build_trainer
from training.ordered_sum import Nodes
from training.rendezvous import join
from training.trainer import Trainer
from training.workers import Workers

CPU = torch.device("cpu")
MODELS = ["TinyModel=10", "resnet18=3"]  # NAME=STEPS in a leg


@dataclass(frozen=True)
class Leg:
    """How a batch is trained on: by how many workers, in how many parts, with which sum."""

    workers: int
    parts: int
    is_ordered: bool = True


LEGS = {
    "1 worker, 1 part": Leg(1, 1),
    "1 worker, 2 parts": Leg(1, 2),
    "2 workers, 2 parts": Leg(2, 2),
    "2 workers, 2 parts, all_reduce": Leg(2, 2, is_ordered=False),
}


@dataclass
class TimedSums:
    """The sums of a worker, ordered or by all_reduce, and the seconds that they took."""

    workers: Workers
    is_ordered: bool
    seconds: float = 0.0
    _ordered: Callable[[Nodes, int, int, Tensor], Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._ordered = self.workers.sum
        self.workers.sum = self  # type: ignore[method-assign]

    def __call__(self, nodes: Nodes, parts: int, length: int, like: Tensor) -> Tensor:
        started = time.perf_counter()
        if self.is_ordered:
            total = self._ordered(nodes, parts, length, like)
        else:
            ((_, total),) = nodes.items()
            self.workers._group.allreduce([total]).wait()
        self.seconds += time.perf_counter() - started
        return total


class Worker:
    """One of the two processes."""

    def __init__(self, config: TrainConfig, workers: Workers) -> None:
        augmentation = create_augmentation(config.augmentation, config.resize, ORIGINAL_MEAN, ORIGINAL_STD)
        torch.manual_seed(0)
        self.trainer = build_trainer(config, MASKED_FACES, augmentation, CPU, steps_per_epoch=100)
        pixels = torch.randint(0, 256, (config.batch_size, 3, *config.resize), dtype=torch.uint8)
        labels = torch.arange(config.batch_size) % 18
        self.batch = Batch(0, pixels, labels, np.arange(config.batch_size))
        self.sums = TimedSums(workers, is_ordered=True)
        self.trainers: dict[tuple[int, int], Trainer] = {}

    def run(self, leg: Leg, steps: int) -> float:
        """Take the steps of a leg; returns the seconds that their sums took."""
        workers = self.sums.workers if leg.workers > 1 else Workers()
        key = leg.workers, leg.parts
        if key not in self.trainers:
            self.trainers[key] = replace(self.trainer, parts=leg.parts, workers=workers)
        self.sums.is_ordered, self.sums.seconds = leg.is_ordered, 0.0
        for step in range(steps):
            self.trainers[key].step(replace(self.batch, step=step), 1, step)
        return self.sums.seconds


def serve(rank: int, port: int, config: TrainConfig, connection: Connection) -> None:
    """Take the steps of one leg after the other, until None comes."""
    configure_process(1)
    with join(torchrun_variables(rank, 2, port)) as workers:
        worker = Worker(config, workers)
        while (job := connection.recv()) is not None:
            connection.send(worker.run(*job))


@contextlib.contextmanager
def two_workers(config: TrainConfig) -> Iterator[list[Connection]]:
    """Start both processes, and end them."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    context, port = multiprocessing.get_context("spawn"), free_port()
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=serve, args=(rank, port, config, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # else an end of the process would not be noticed
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for ours, _ in pipes:
            with contextlib.suppress(OSError):  # it has failed, and said why
                ours.send(None)
        for process in processes:
            process.join()


def bench_workers(config: TrainConfig, steps: int, rounds: int) -> dict[str, dict[str, str]]:
    """A network trained by one and by two workers, and what their sums take; returns a column of the table."""
    shares: dict[str, list[float]] = defaultdict(list)

    def leg_of(name: str, leg: Leg) -> Callable[[], int]:
        def take() -> int:
            started = time.perf_counter()
            for connection in connections[: leg.workers]:
                connection.send((leg, steps))
            seconds, *_ = [connection.recv() for connection in connections[: leg.workers]]
            shares[name].append(seconds / (time.perf_counter() - started))
            return steps * config.batch_size

        return take

    with two_workers(config) as connections:
        bench = Bench(CPU, rounds)
        bench.legs = {name: leg_of(name, leg) for name, leg in LEGS.items()}
        rates = bench.run()
    dtype = select_dtype(config.precision, CPU) or torch.float32
    one, one2, two, plain = (
        "1 worker, 1 part",
        "1 worker, 2 parts",
        "2 workers, 2 parts",
        "2 workers, 2 parts, all_reduce",
    )
    ratios = {
        "2 workers / 1 worker, both in 2 parts": (two, one2),
        "2 workers in 2 parts / 1 worker in 1 part": (two, one),
        "1 worker: 2 parts / 1 part": (one2, one),
        "2 workers: ordered sum / plain all_reduce": (two, plain),
    }
    show(
        f"{config.model}, {dtype}, CPUs, 1 OMP thread per worker",
        rates,
        [(text, above, below, 0) for text, (above, below) in ratios.items()],
    )
    medians = []
    for text, name in (("the ordered sum", two), ("all_reduce", plain)):
        share, milliseconds = statistics.median(shares[name][1:]), config.batch_size / rates[name].wall * 1000
        print(f"  share of a step in {text:<22} {share:9.1%}, {share * milliseconds:.1f} of {milliseconds:.0f} ms")
        medians.append(f"{100 * share:.1f} %")
    cells = {text: ratio_with_cpu(rates, above, below) for text, (above, below) in ratios.items()}
    cells["share of a step in the ordered sum, in all_reduce"] = ", ".join(medians)
    return {f"{config.model}, {short_name(dtype)}": cells}
