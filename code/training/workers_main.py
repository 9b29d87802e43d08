"""The launcher of the workers of a host: `train.py` itself, if training takes several processes.

    python code/train.py --nproc-per-node 2      two workers of one host
    train                                        in the container: one per GPU, on all hosts of the job

The process that was started (PID 1 in the container) stays as the launcher. It starts each worker as the same command
with torchrun's variables (RANK, WORLD_SIZE, ...), by torchrun's process layer, but without torchrun's agent, which
kills workers 30 seconds after a SIGTERM, exits with 1 although all have saved, and may wait 300 seconds for others.

1. A SIGTERM, SIGINT, SIGHUP or SIGQUIT of the launcher becomes a SIGTERM for each of its workers. One is enough for all
   hosts: the workers agree on the step after which they stop.
2. The exit code is 0 only if that of every worker is 0.
3. Once a worker has failed, or another host is gone, the others have GRACE_SECONDS to end before they are killed.
4. A worker writes its failure file to a folder of its own; the launcher alone writes the real one, on every host the
   same sentence: the cause, not that a connection was closed (worker_failures.py).
5. A worker ends with its launcher, even if that is killed by SIGKILL.

torchrun itself works, too: in a process that has RANK, nothing is started.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.failure import write_failure
from runtime.network import LOOPBACK, interface_towards
from runtime.parent import end_with_parent
from training import worker_processes
from training.hosts import Hosts, read_hosts, read_port
from training.worker_failures import Cause, Ending, find_cause, first_lost, read_ending, was_stopped
from training.worker_processes import StopSignals, WorkerProcesses

if TYPE_CHECKING:
    from training.launchers import Rendezvous

_LAUNCHER = "WORKER_LAUNCHER_PID"  # variable of a worker that was started here
_UNKNOWN = "TrainingError: the workers have lost each other, and none says why; see the logs of all hosts"


def start_workers(command: Sequence[str], nproc_per_node: int, device: str) -> None:
    """Start the workers of this host and end the process when they have ended, if training takes several processes.

    `command` starts this program again; `nproc_per_node` 0 is one worker per GPU, or one on CPUs (`device`). Returns if
    this process is a worker, or trains alone. Raises ConfigError or TrainingError if the hosts do not fit together.
    """
    if "RANK" in os.environ:
        become_worker()
        return
    hosts, workers = read_hosts(os.environ), nproc_per_node or _count_gpus(device) or 1
    if hosts.are_several or workers > 1:
        sys.exit(launch(command, hosts, workers))


def become_worker() -> None:
    """Tie this worker to its launcher; one that torchrun has started gets a network interface and a warning."""
    if launcher := os.environ.get(_LAUNCHER):
        end_with_parent(int(launcher))
        return
    is_alone = os.environ.get("GROUP_WORLD_SIZE") == "1"
    if interface := LOOPBACK if is_alone else interface_towards(os.environ.get("MASTER_ADDR", "")):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    if os.environ["RANK"] == "0":
        print(
            "warning: torchrun ends workers 30 seconds after SIGTERM, and with exit code 1; use --nproc-per-node of "
            "train.py instead",
            file=sys.stderr,
            flush=True,
        )


def launch(command: Sequence[str], hosts: Hosts, workers: int, **patience: float) -> int:
    """Run `workers` workers on this host, and as many on each other; return the exit code once those here have ended.

    `patience` are the seconds that `meet` waits for other hosts. Raises TrainingError as `meet` does.
    """
    from training.launchers import meet  # imports torch

    rendezvous = meet(hosts, workers, port=read_port(os.environ), **patience)
    stop = StopSignals()
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        folders = {local: Path(folder) / str(local) for local in range(workers)}
        environs = {local: worker_environ(rendezvous, local, workers, folders[local]) for local in folders}
        print(_describe(hosts, workers, environs[0]), flush=True)
        processes = WorkerProcesses(command, environs, Path(folder), stop)
        codes = processes.wait(lambda: rendezvous.failure)
        endings = [
            read_ending(_name(hosts, local, workers), code, folders[local], killed_by_us=local in processes.killed)
            for local, code in codes.items()
        ]
    exit_code = _conclude(endings, stop, rendezvous)
    rendezvous.leave(exit_code)
    return exit_code


def worker_environ(rendezvous: "Rendezvous", local: int, workers: int, folder: Path) -> dict[str, str]:
    """Return the variables of the worker with a local rank: torchrun's, the interface, and a folder for its failure."""
    hosts = rendezvous.hosts
    environ = {
        "RANK": hosts.rank * workers + local,
        "LOCAL_RANK": local,
        "WORLD_SIZE": len(hosts.names) * workers,
        "LOCAL_WORLD_SIZE": workers,
        "GROUP_RANK": hosts.rank,
        "GROUP_WORLD_SIZE": len(hosts.names),
        "MASTER_ADDR": rendezvous.address,
        "MASTER_PORT": rendezvous.port,
        "TORCHELASTIC_USE_AGENT_STORE": True,  # the first worker does not keep a store of its own
        "TORCH_CPP_LOG_LEVEL": os.environ["TORCH_CPP_LOG_LEVEL"],
        "SM_OUTPUT_DIR": folder,
        "SM_MESSAGE_FILE": "",
        _LAUNCHER: os.getpid(),
    }
    if rendezvous.interface:
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            environ[variable] = os.environ.get(variable) or rendezvous.interface
    return {name: str(value) for name, value in environ.items()}


def _count_gpus(device: str) -> int:
    """Return how many GPUs training may use, 0 also for a single one.

    torch counts them exactly, but takes seconds to import, before which the first images could be decoded.
    """
    if device == "cpu" or not _may_have_several_gpus():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _may_have_several_gpus() -> bool:
    """Return whether NVIDIA's driver has several GPUs; that of Windows (WSL) does not say how many."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) > 1 or Path("/dev/dxg").exists()


def _name(hosts: Hosts, local: int, workers: int) -> str:
    """Return `worker 3 of algo-2`, or `worker 3` where there is one host."""
    rank = hosts.rank * workers + local
    return f"worker {rank} of {hosts.current}" if hosts.are_several else f"worker {rank}"


def _describe(hosts: Hosts, workers: int, environ: dict[str, str]) -> str:
    """Return the line of the log about who trains."""
    if not hosts.are_several:
        return f"{workers} workers on this host"
    here = f"{workers} worker{'s' if workers > 1 else ''} on each of {len(hosts.names)} hosts"
    return f"{here}: {', '.join(hosts.names)}; network interface {environ.get('GLOO_SOCKET_IFNAME', 'unknown')}"


def _conclude(endings: Sequence[Ending], stop: StopSignals, rendezvous: "Rendezvous") -> int:
    """Report the cause if a worker has failed, on every host the same; return the exit code."""
    if not any(ending.exit_code for ending in endings):
        return 0
    if stop.count and was_stopped(endings):
        rendezvous.publish(f"TrainingError: host {rendezvous.hosts.current} was stopped before its first step")
        return 128 + stop.number
    cause = find_cause(endings)
    late = ", ".join(ending.name for ending in endings if ending.killed_by_us)
    if cause is None and late and stop.count and not rendezvous.failure:
        limit = f"{worker_processes.STOP_SECONDS:g} seconds"
        cause = Cause(f"TrainingError: {late} did not save within {limit} of the signal to stop")
    if cause:
        text = rendezvous.publish(cause.text)
    else:
        text = rendezvous.wait_for_cause(worker_processes.GRACE_SECONDS + 5) or first_lost(endings) or _UNKNOWN
    write_failure(text)
    if not (cause and cause.is_printed and text == cause.text):
        print(text, file=sys.stderr, flush=True)
    return cause.exit_code if cause else 1
