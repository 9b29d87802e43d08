"""How the workers of a run find each other, and how they part (workers.py)."""

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from runtime.errors import ConfigError, TrainingError
from runtime.streams import discarding_stdout
from training.workers import Workers

START_SECONDS = 600  # for all workers to come
GROUP_SECONDS = 600  # for an answer within a collective: a host without power says nothing


@contextlib.contextmanager
def join(environ: Mapping[str, str]) -> Iterator[Workers]:
    """Join the workers of the run that torchrun's variables describe, and leave in order at the end.

    An error ends all workers. Raises ConfigError if a variable is missing, and TrainingError if workers do not come.
    """
    if environ.get("WORLD_SIZE") in (None, "", "1"):
        yield Workers()
        return
    try:
        rank, size, local_size = (int(environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is {environ['WORLD_SIZE']}, but a variable of torchrun is wrong ({error})"
        ) from None
    workers = _meet(rank, size, local_size, address, port, environ.get("SM_CURRENT_HOST") or socket.gethostname())
    try:
        yield workers
        workers.leave()
    except BaseException as error:
        cause = workers.lost.publish(error)
        workers.hang_up()
        workers.lost.leave()
        if cause is error:
            raise
        raise cause from None
    workers.hang_up()


def _meet(rank: int, size: int, local_size: int, address: str, port: int, host_name: str) -> Workers:
    """Wait for all workers; worker 0 keeps the store, unless their launcher does."""
    keeps_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        seconds = datetime.timedelta(seconds=START_SECONDS)
        store = TCPStore(address, port, size, keeps_store, timeout=seconds, wait_for_workers=False)
        limit = datetime.timedelta(seconds=GROUP_SECONDS)
        with discarding_stdout():  # "[Gloo] Rank 0 is connected to ...", which no log level leaves out
            group = ProcessGroupGloo(PrefixStore("gloo", store), rank, size, limit)
    except RuntimeError as error:
        raise TrainingError(
            f"not all {size} workers came to {address}:{port} within {START_SECONDS // 60} minutes "
            f"({str(error).partition(chr(10))[0]}); check that every host runs and can reach that address"
        ) from None
    return Workers(rank, size, local_size=local_size, group=group, store=PrefixStore("run", store), host_name=host_name)


@contextlib.contextmanager
def quiet(is_quiet: bool) -> Iterator[None]:
    """Print nothing if `is_quiet`: the first worker speaks for all, and tools read the metrics from the logs of all."""
    if not is_quiet:
        yield
        return
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield
