"""The hosts of a training job, in the order that all of them agree on. No torch.

SageMaker's resourceconfig.json lists them in any order, and each host may see another one. Sorted by length and name,
algo-2 comes before algo-10; the first host keeps the TCPStore, and its first worker writes the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import ConfigError

PORT = 7777  # as SageMaker's own launchers have it


@dataclass(frozen=True)
class Hosts:
    """The hosts of a job: `names` in their order, and the one this process runs on."""

    names: tuple[str, ...] = ("localhost",)
    current: str = "localhost"
    interface: str = ""  # network interface that SageMaker names, which may not exist

    @property
    def rank(self) -> int:
        """Return the position of this host."""
        return self.names.index(self.current)

    @property
    def are_several(self) -> bool:
        return len(self.names) > 1


def read_hosts(environ: Mapping[str, str]) -> Hosts:
    """Return the hosts that SM_HOSTS and SM_CURRENT_HOST name; without them, this host alone.

    Raises ConfigError if the variables contradict each other.
    """
    if not environ.get("SM_HOSTS"):
        return Hosts()
    try:
        names = json.loads(environ["SM_HOSTS"])
    except ValueError:
        names = environ["SM_HOSTS"]
    current = environ.get("SM_CURRENT_HOST", "")
    if names == [current]:  # one host may have any name
        return Hosts((current,), current, environ.get("SM_NETWORK_INTERFACE_NAME", ""))
    return order_hosts(names, current, environ.get("SM_NETWORK_INTERFACE_NAME", ""))


def read_port(environ: Mapping[str, str]) -> int:
    """Return the port on which the hosts meet, MASTER_PORT or PORT; raise ConfigError if it is none."""
    text = environ.get("MASTER_PORT") or str(PORT)
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise ConfigError(f"MASTER_PORT is {text!r}, expected the number of a port, from 1 to 65535")
    return int(text)


def order_hosts(names: object, current: object, interface: str = "") -> Hosts:
    """Return the hosts in order; raise ConfigError if `names` is not a list of names, or the current one is not in it.

    One host needs no current name.
    """
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"hosts is {names!r} in resourceconfig.json, expected a list of names")
    ordered = sort_hosts(names)
    if len(set(ordered)) < len(ordered):
        raise ConfigError(f"hosts has a name twice in resourceconfig.json, expected each host once: {names}")
    if current not in ordered:
        raise ConfigError(f"current_host is {current!r} in resourceconfig.json, expected one of the hosts: {names}")
    return Hosts(ordered, str(current), interface)


def sort_hosts(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of hosts in order."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))
