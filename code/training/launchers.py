"""The rendezvous of the launchers, one on each host: who takes part, who is still there, and what went wrong.

The launcher of the first host keeps a TCPStore, which its workers and those of all hosts use as well. It outlives them,
so the reason of a failure gets through when workers have ended. Keys, for the host of rank R:

    launchers/joined/R     JSON: what the host says about itself
    launchers/read         how many hosts have read that of all others
    launchers/beat/R       a number that grows every second
    launchers/outcome/R    exit code, once its workers have ended
    launchers/failure      the first failure; later ones do not replace it
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

# torch writes a C++ stack trace for each connection that fails.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not in __all__

from runtime.errors import TrainingError
from runtime.network import LOOPBACK, find_interface
from training.hosts import PORT, Hosts

JOIN_SECONDS = 600.0  # for the slowest host: its image, its data, its name in the DNS
LOST_SECONDS = 30.0  # without a beat, after which a host is gone; a closed connection is noticed at once
LEAVE_SECONDS = 10.0  # that the first host waits for the others at the end

_BEAT_SECONDS = 1.0
_FAILURE = "launchers/failure"


@dataclass(frozen=True)
class Member:
    """What a host says about itself: its name, its workers, and the address from which it reached the first host."""

    host: str
    workers: int
    address: str = ""


class Rendezvous:
    """The connection of this host's launcher to those of the others, once all are there."""

    def __init__(self, hosts: Hosts, members: list[Member], store: TCPStore) -> None:
        """Keep in touch from now on, by a connection that nobody else uses."""
        self.hosts, self.members, self.port = hosts, members, int(store.port)
        self._store = store  # of the first host: the server itself
        now = time.monotonic()
        self._contact = now  # the last time that the store responded
        self._is_cut = False
        self._beats = dict.fromkeys(hosts.names, (b"", now))  # the last beat, and when it came
        self._outcomes: set[str] = set()  # hosts that have ended
        self._failure = self._ours = ""
        self._outcome: int | None = None
        self._news = threading.Event()
        if hosts.are_several:
            threading.Thread(target=self._keep_in_touch, daemon=True).start()

    @property
    def address(self) -> str:
        """Return where the workers of this host find the store."""
        return self.hosts.names[0] if self.hosts.rank else "127.0.0.1"

    @property
    def interface(self) -> str | None:
        """Return the network interface that leads to the other hosts."""
        if not self.hosts.are_several:
            return LOOPBACK
        peer = self.address if self.hosts.rank else self.members[1].address
        return find_interface(self.hosts.interface, peer)

    @property
    def failure(self) -> str:
        """Return the first failure that a host has published, or that a host is gone; empty while all is well."""
        return self._failure or self._lost(LOST_SECONDS)

    def publish(self, failure: str) -> str:
        """Tell the other hosts about a failure; return the first one, which is another if a host was faster."""
        self._ours = failure
        self._news.set()
        if self.hosts.are_several:
            _wait(lambda: bool(self._failure) or self._is_cut, 5)
        return self._failure or failure

    def wait_for_cause(self, seconds: float) -> str:
        """Return why workers of this host have lost another one: the failure of a host, or that it is gone.

        Return an empty string if no host says so in time.
        """
        if self.hosts.are_several:
            _wait(lambda: bool(self._failure or self._lost(5)), seconds)
        return self._failure or self._lost(5)

    def leave(self, exit_code: int) -> None:
        """Tell the others how this host ended; the first one waits some seconds for them, as it keeps the store."""
        self._outcome = exit_code
        self._news.set()
        if self.hosts.are_several:
            _wait(lambda: self.hosts.current in self._outcomes or self._is_cut, 5)
        if self.hosts.are_several and not self.hosts.rank:
            _wait(lambda: len(self._outcomes) == len(self.hosts.names) or bool(self._lost(5)), LEAVE_SECONDS)

    def _lost(self, seconds: float) -> str:
        """Return a sentence that names a host without a beat for some seconds; empty if there is none."""
        now, first = time.monotonic(), self.hosts.names[0]
        silent = [host for host, (_, came) in self._beats.items() if self._contact - came > seconds]
        if self._is_cut or now - self._contact > seconds:
            silent.insert(0, first)
        for host in silent:
            if self.hosts.are_several and host != self.hosts.current and host not in self._outcomes:
                return f"TrainingError: {_gone(host)}"
        return ""

    def _keep_in_touch(self) -> None:
        """Exchange news with the store every second, in a thread of its own: a call may hang if a host is gone."""
        while not self._is_cut:
            try:
                self._exchange()
                self._contact = time.monotonic()
            except RuntimeError:  # torch.distributed's errors
                self._is_cut = True
            self._news.wait(_BEAT_SECONDS)
            self._news.clear()

    def _exchange(self) -> None:
        rank, store = self.hosts.rank, self._store
        store.add(f"launchers/beat/{rank}", 1)
        if self._ours:
            store.compare_set(_FAILURE, "", self._ours)
        if self._outcome is not None:
            store.set(f"launchers/outcome/{rank}", str(self._outcome))
        for other, host in enumerate(self.hosts.names):
            if store.check([f"launchers/beat/{other}"]):
                beat = store.get(f"launchers/beat/{other}")
                if beat != self._beats[host][0]:
                    self._beats[host] = beat, time.monotonic()
            if store.check([f"launchers/outcome/{other}"]):
                self._outcomes.add(host)
        self._failure = _read_failure(store)


def meet(hosts: Hosts, workers: int, *, port: int = PORT, wait_seconds: float = JOIN_SECONDS) -> Rendezvous:
    """Wait for the launchers of all hosts, each of which is to start `workers` workers.

    Raises TrainingError if one does not come in time, or is to start another number.
    """
    if not hosts.are_several:
        return Rendezvous(hosts, [Member(hosts.current, workers)], _serve(hosts, 0))
    waiting = _Waiting(wait_seconds, port)
    own_address = waiting.until_reachable(hosts.names[0]) if hosts.rank else ""
    store = _connect(hosts.names[0], port) if hosts.rank else _serve(hosts, port)
    try:
        members = _join(store, hosts, Member(hosts.current, workers, own_address), waiting)
    except RuntimeError:
        raise TrainingError(_gone(hosts.names[0])) from None
    except TrainingError as error:
        store.compare_set(_FAILURE, "", f"TrainingError: {error}")
        time.sleep(0 if hosts.rank else 2)  # the others read it
        raise
    return Rendezvous(hosts, members, store)


def _join(store: TCPStore, hosts: Hosts, member: Member, waiting: "_Waiting") -> list[Member]:
    """Return what all hosts say about themselves; raise TrainingError if they do not fit together."""
    store.set(f"launchers/joined/{hosts.rank}", json.dumps(asdict(member)))
    everybody = range(len(hosts.names))
    while missing := [hosts.names[rank] for rank in everybody if not store.check([f"launchers/joined/{rank}"])]:
        if failure := _read_failure(store):
            raise TrainingError(failure.removeprefix("TrainingError: "))
        waiting.pause(", ".join(missing))
    members = [Member(**json.loads(store.get(f"launchers/joined/{rank}"))) for rank in everybody]
    store.add("launchers/read", 1)
    if not hosts.rank:  # this host keeps the store, so it ends after the others have read it
        _wait(lambda: store.add("launchers/read", 0) == len(members), 10)
    for other in members[1:]:
        if other.workers != members[0].workers:
            raise TrainingError(
                f"{members[0].host} is to start {members[0].workers} workers and {other.host} {other.workers}; every "
                "host needs the same number of GPUs, or give --nproc-per-node"
            )
    return members


class _Waiting:
    """The wait for hosts that are not there yet, with a line in the log from time to time."""

    def __init__(self, seconds: float, port: int) -> None:
        self.seconds, self.port, self.began = seconds, port, time.monotonic()
        self.next_line = self.began + 1

    def until_reachable(self, host: str) -> str:
        """Wait until a host listens at the port; return the own address that the connection has."""
        while True:
            try:
                with socket.create_connection((host, self.port), timeout=5) as connection:
                    return str(connection.getsockname()[0])
            except socket.gaierror:
                reason = "its name is not known yet"
            except OSError as error:
                reason = error.strerror or str(error)
            self.pause(host, f" ({reason.lower()})")

    def pause(self, hosts: str, reason: str = "") -> None:
        """Sleep for a moment; raise TrainingError if the time is over."""
        now = time.monotonic()
        if now - self.began > self.seconds:
            raise TrainingError(
                f"host {hosts} did not come within {self.seconds:g} seconds{reason}; its log says why, or the hosts "
                f"cannot reach each other at port {self.port}"
            )
        if now > self.next_line:
            print(f"waiting for {hosts}{reason}", flush=True)
            self.next_line = now + 60
        time.sleep(0.2)


def _serve(hosts: Hosts, port: int) -> TCPStore:
    try:
        return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    except RuntimeError as error:
        raise TrainingError(
            f"port {port} of {hosts.current} cannot be used ({_reason(error)}); end the other training on this host"
        ) from None


def _connect(host: str, port: int) -> TCPStore:
    try:
        return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=60))
    except RuntimeError:
        raise TrainingError(_gone(host)) from None


def _reason(error: RuntimeError) -> str:
    """Return what the system says in an error of torch.distributed: `address already in use`."""
    return str(error).partition("\n")[0].rpartition("message: ")[2]


def _read_failure(store: TCPStore) -> str:
    return str(store.get(_FAILURE).decode(errors="replace")) if store.check([_FAILURE]) else ""


def _gone(host: str) -> str:
    return f"host {host} is gone: it was stopped or killed, or its network failed; see its log, a restart resumes"


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, at most some seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
