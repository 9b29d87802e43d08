"""The workers of a run: processes that compute the parts of each batch, on one host or several. The rules:

1. A batch is cut into P parts, as torch.tensor_split cuts. P is fixed when a run starts and kept in its checkpoint, so
   the number of workers W may change at every start. Worker r computes contiguous parts; if W > P, some have none.
2. A part is computed alone: its own tensors, its own draws (where P > 1), the statistics of batch norm from before the
   step. What comes out of it is one vector of float32: gradients, statistics, loss, predictions.
3. The vectors of all parts are added in one order (ordered_sum.py). Whatever decides afterwards (clipping, scaling,
   optimizer, average, scores) reads the sum alone, so it is the same on every worker and need not be sent.
4. Before the sum, all workers agree on a control word: whether to stop, to save, and in how many parts. A signal to one
   of them stops all after the same step. A worker without memory makes all repeat the step in twice as many parts.
5. Worker 0 alone reads checkpoints and writes files. Every start is a resume: all load the bytes that it sends.
6. Nothing is trusted to be the same: versions, processors and data are compared at the start, weights at every epoch.
7. A worker that fails says why, and all end with its sentence (lost_workers.py).
8. At the end each worker takes part in a last collective, flushes, and destroys its groups: without that the process
   may abort after everything was saved. The groups are torch's own objects, and no global one is initialised: those
   keep connections open until the process ends, so others would not notice that a worker has failed.

The engine is torch.distributed: its TCPStore, gloo for control, NCCL or gloo for sums. Without the variables of
torchrun (RANK, WORLD_SIZE, ...) there is one worker, and nothing here costs anything.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from runtime.errors import ConfigError, JobError, TrainingError
from runtime.process import Stopped
from training.host_peers import HostPeers
from training.lost_workers import LostWorkers, Member, start_time
from training.ordered_sum import Nodes, OrderedSum, Stage, share

Item = TypeVar("Item")


@dataclass
class Control:
    """What a worker wants, and what all have agreed on after the last step."""

    wants_stop: Callable[[], bool] = lambda: False
    wants_save: Callable[[], bool] = lambda: False
    stop: bool = False
    save: bool = False


class Workers:
    """The workers of a run as one of them sees them; `Workers()` is a worker that is alone."""

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        *,
        local_size: int = 1,
        group: Any = None,
        store: Any = None,
        host_name: str = "",
    ) -> None:
        """`group` is a gloo group of all, `store` a Store of torch.distributed; `local_size` workers share a host."""
        self.rank, self.size, self.local_size = rank, size, local_size
        self.control = Control()
        self._group, self._store = group, store
        self._sum = OrderedSum(1, [])
        self._sums_on_cpu = True
        if size > 1:
            self._sum = OrderedSum(size, [Stage(group, rank, [[worker] for worker in range(size)], is_gloo=True)])
            mine = os.getpid(), start_time(os.getpid())
            self.lost = LostWorkers(store, rank, [Member(f"worker {r}", r // local_size, *mine) for r in range(size)])
            names = self.exchange((host_name, *mine))
            several = size > local_size
            self.lost.members = [
                Member(f"worker {rank} of {name}" if several else f"worker {rank}", rank // local_size, pid, started)
                for rank, (name, pid, started) in enumerate(names)
            ]

    @property
    def is_first(self) -> bool:
        """Return True for the worker that writes files."""
        return self.rank == 0

    @property
    def must_stop(self) -> bool:
        """Return True once a stop is requested; with several workers, once all have agreed on it."""
        return self.control.wants_stop() if self.size == 1 else self.control.stop

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; once all must stop, raise Stopped instead of yielding the next one."""
        for item in items:
            if self.must_stop:
                raise Stopped
            yield item

    @property
    def local_rank(self) -> int:
        return self.rank % self.local_size

    @property
    def host(self) -> int:
        """Return the number of this host."""
        return self.rank // self.local_size

    def parts(self, count: int) -> range:
        """Return which of `count` parts this worker computes."""
        return share(count, self.size, self.rank)

    def place(self, device: torch.device) -> torch.device:
        """Return the device of this worker: on a host with several GPUs, each has its own.

        Then the GPUs exchange themselves what is added up; otherwise it is sent from the memory of the hosts.
        """
        if self.size == 1 or device.type != "cuda":
            return device
        count = torch.cuda.device_count()
        device = torch.device("cuda", self.local_rank % count)
        torch.cuda.set_device(device)
        if count >= self.local_size and distributed.is_nccl_available():
            with self._collective():
                self._sums_on_cpu, self._sum = False, OrderedSum(self.size, self._nccl_stages())
        return device

    def agree(self, parts: int) -> int:
        """Return the largest number of parts that any worker wants, and set `control.stop` and `control.save`.

        All workers call this at the same time, with `parts` or the number that they need.
        """
        control = self.control
        if self.size == 1:
            return parts
        word = torch.tensor([control.wants_stop(), control.wants_save(), parts], dtype=torch.int64)
        self._maximum(word)
        control.stop, control.save = bool(word[0]), bool(word[1])
        return int(word[2])

    def padded(self, length: int) -> int:
        """Return the length that a vector of `length` numbers needs to be summed."""
        return self._sum.padded(length)

    def reserve(self, length: int, parts: int, like: Tensor) -> None:
        """Take the memory that `sum` needs. Do this before `agree`: a sum may not fail on one worker alone."""
        self._sum.reserve(length, parts, self._for_sum(like))

    def sum(self, nodes: Nodes, parts: int, length: int, like: Tensor) -> Tensor:
        """Return the sum over all parts, as OrderedSum does."""
        if self.size == 1:
            ((_, total),) = nodes.items()
            return total
        with self._collective():
            sent = {node: self._for_sum(vector) for node, vector in nodes.items()}
            return self._sum(sent, parts, length, self._for_sum(like)).to(like.device)

    def broadcast(self, data: bytes = b"", source: int = 0) -> bytes:
        """Return the bytes that worker `source` gives; the others give nothing."""
        if self.size == 1:
            return data
        with self._collective():
            length = torch.tensor([len(data)])
            self._group.broadcast(length, source).wait()
            memory = torch.empty(int(length), dtype=torch.uint8)
            if self.rank == source and data:
                memory.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            if len(memory):
                self._group.broadcast(memory, source).wait()
            return memory.numpy().tobytes()

    def tell(self, value: Any = None) -> Any:
        """Return what worker 0 gives, as JSON."""
        return json.loads(self.broadcast(json.dumps(value).encode() if self.is_first else b""))

    def exchange(self, value: Any) -> list[Any]:
        """Return what each worker gives, as JSON, in the order of their ranks."""
        text = json.dumps(value).encode()
        found = (self.broadcast(text if rank == self.rank else b"", rank) for rank in range(self.size))
        return [json.loads(data) for data in found]

    def gather_rows(self, own: list[Tensor], counts: list[int]) -> list[Tensor]:
        """Return the rows of all workers, (rows, ...) each, on every worker; `counts` are how many each has.

        `own` are tensors of rows, which may be none on some workers.
        """
        (shape,) = {
            tuple(shape) for shape in self.exchange(tuple(own[0].shape[1:]) if own else None) if shape is not None
        }
        with self._collective():
            found = []
            for rank, count in enumerate(counts):
                part = torch.empty((count, *shape))
                if rank == self.rank and own:
                    part.copy_(torch.cat(own))
                if count:
                    self._group.broadcast(part, rank).wait()
                found.append(part)
            return found

    def any(self, flags: list[bool]) -> list[bool]:
        """Return for each flag whether it is set on any worker."""
        if self.size == 1:
            return flags
        values = torch.tensor(flags, dtype=torch.int64)
        self._maximum(values)
        return [bool(value) for value in values.tolist()]

    def require_same(self, mine: Mapping[str, Any], advice: str, error: type[JobError] = ConfigError) -> None:
        """Raise an error that names the first of these values (JSON) that another worker does not share."""
        first, *others = self.exchange(dict(mine)) if self.size > 1 else [mine]
        for rank, theirs in enumerate(others, 1):
            for key in sorted({*first, *theirs}):
                if first.get(key) != theirs.get(key):
                    raise error(
                        f"{key} is {_short(first.get(key))} on {self.name(0)} and {_short(theirs.get(key))} on "
                        f"{self.name(rank)}; {advice}"
                    )

    def require_same_weights(self, checksum: int) -> None:
        """Raise TrainingError if the checksum of everything that is trained is another one on another worker."""
        if self.size == 1:
            return
        found = torch.full((self.size,), torch.iinfo(torch.int64).min, dtype=torch.int64)
        found[self.rank] = checksum
        self._maximum(found)
        if different := [rank for rank, value in enumerate(found.tolist()) if value != found[0]]:
            raise TrainingError(
                f"the weights of {self.name(different[0])} are not those of {self.name(0)}, so one of them computed "
                "wrong; check the memory and the GPU of their hosts, and restart to resume from the checkpoint before"
            )

    def name(self, rank: int) -> str:
        """Return how messages name a worker."""
        return self.lost.members[rank].name

    def host_peers(self) -> HostPeers | None:
        """Return this worker and the others of its host, None if there are no others."""
        return (
            HostPeers(self._store, self.lost, self.host, self.local_rank, self.local_size)
            if self.local_size > 1
            else None
        )

    def leave(self) -> None:
        """End in order, together with all others (rule 8)."""
        if self.size > 1:
            self.agree(0)
            sys.stdout.flush()
            sys.stderr.flush()
            self.lost.leave()

    def hang_up(self) -> None:
        """Close the connections to the others, which notice it at once; nothing is exchanged any more."""
        self._group, self._sum = None, OrderedSum(1, [])

    def _maximum(self, values: Tensor) -> None:
        """Replace values (n,), int64 on the CPU, by the largest of all workers."""
        options = distributed.AllreduceOptions()
        options.reduceOp = distributed.ReduceOp.MAX  # type: ignore[assignment]
        with self._collective():
            self._group.allreduce([values], options).wait()

    def _for_sum(self, vector: Tensor) -> Tensor:
        return vector.cpu() if self._sums_on_cpu else vector

    @contextlib.contextmanager
    def _collective(self) -> Iterator[None]:
        """Raise the error of the worker because of which a collective fails, instead of that of a closed connection."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            self.lost.explain()

    def _nccl_stages(self) -> list[Stage]:
        """Return the groups in which GPUs exchange: within each host, then between hosts; or all in one."""
        hosts, local = self.size // self.local_size, self.local_size
        if hosts == 1 or local == 1:
            members = [[rank] for rank in range(self.size)]
            return [Stage(self._nccl("all", self.rank, self.size), self.rank, members, is_gloo=False)]
        by_host = [[host * local + place for place in range(local)] for host in range(hosts)]
        inner = self._nccl(f"host {self.host}", self.local_rank, local)
        outer = self._nccl(f"place {self.local_rank}", self.host, hosts)
        return [
            Stage(inner, self.local_rank, [[rank] for rank in by_host[self.host]], is_gloo=False),
            Stage(outer, self.host, by_host, is_gloo=False),
        ]

    def _nccl(self, name: str, rank: int, size: int) -> Any:
        store = distributed.PrefixStore(f"nccl {name}", self._store)  # type: ignore[attr-defined]
        return distributed.ProcessGroupNCCL(store, rank, size, distributed.ProcessGroupNCCL.Options())


def _short(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
