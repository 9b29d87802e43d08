"""Workers of a run as threads of one process: each has its own gloo group, over loopback."""

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from torch.distributed import HashStore, PrefixStore, ProcessGroupGloo  # type: ignore[attr-defined]

from training.ordered_sum import Stage
from training.workers import Workers

Result = TypeVar("Result")
_SECONDS = 30


def run_workers(size: int, work: Callable[[Workers], Result], *, local_size: int | None = None) -> list[Result]:
    """Return `work(worker)` of each of `size` workers, in the order of their ranks."""
    if size == 1:
        return [work(Workers())]
    store = HashStore()

    def create(rank: int) -> Workers:
        """Create a worker; nothing else refers to its group, whose connections close with it."""
        group, each = gloo_group(store, "all", rank, size), local_size or size
        return Workers(rank, size, local_size=each, group=group, store=store, host_name=f"algo-{rank // each + 1}")

    def start(rank: int) -> Result:
        return work(create(rank))

    return in_threads(size, start)


def two_stages(store: Any, rank: int, hosts: int, local_size: int) -> list[Stage]:
    """Return a group within the host of a worker, and one between hosts, as GPUs use them."""
    host, place = divmod(rank, local_size)
    by_host = [[first * local_size + other for other in range(local_size)] for first in range(hosts)]
    inner = gloo_group(store, f"host {host}", place, local_size)
    outer = gloo_group(store, f"place {place}", host, hosts)
    return [
        Stage(inner, place, [[worker] for worker in by_host[host]], is_gloo=True),
        Stage(outer, host, by_host, is_gloo=True),
    ]


def in_threads(size: int, work: Callable[[int], Result]) -> list[Result]:
    with ThreadPoolExecutor(size) as pool:
        return [future.result(_SECONDS) for future in [pool.submit(work, rank) for rank in range(size)]]


def gloo_group(store: Any, name: str, rank: int, size: int) -> ProcessGroupGloo:
    """Create a member of a group; without lazy_init its constructor would wait and hold the interpreter's lock."""
    options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(interface="lo", lazy_init=True)]
    options._timeout = datetime.timedelta(seconds=_SECONDS)
    return ProcessGroupGloo(PrefixStore(name, store), rank, size, options)


def raised(work: Callable[[], Any], kind: type[BaseException]) -> str:
    """Return the name and the message of the error that `work` raises."""
    with pytest.raises(kind) as caught:
        work()
    return f"{caught.type.__name__}: {caught.value}"
