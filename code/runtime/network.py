"""The network interface through which this host reaches another one. No torch.

gloo and NCCL guess it: gloo takes the address that the host's own name has, which in a container is often 127.0.0.1,
and NCCL the first interface, which on SageMaker may be one that leads nowhere.
"""

import socket

import psutil

LOOPBACK = "lo"


def source_address(address: str, port: int = 9) -> str | None:
    """Return the own IP address from which packets to `address` leave; None if no route leads there. Sends nothing."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def interface_of(address: str | None) -> str | None:
    """Return the name of the interface that has an IP address, None if no interface has it."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in addresses):
            return str(name)
    return None


def interface_towards(peer: str) -> str | None:
    """Return the interface that leads to a host; None if none does, or if its name is one for this host itself."""
    interface = interface_of(source_address(peer))
    return interface if interface != LOOPBACK else None


def find_interface(named: str, peer: str) -> str | None:
    """Return the interface `named`, if this host has it, else the one that leads to `peer`, or None."""
    return named if named in psutil.net_if_addrs() else interface_of(source_address(peer))
