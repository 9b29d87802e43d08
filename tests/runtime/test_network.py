"""The interface is found that leads to another host, whatever names say."""

from types import SimpleNamespace

import psutil
import pytest

from runtime import network
from runtime.network import find_interface, interface_of, source_address

ADDRESSES = {
    "lo": ["127.0.0.1", "::1"],
    "eth0": ["169.254.0.2", "fe80::1%eth0"],
    "eth1": ["10.0.0.7", "fd00::7"],
}


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this host has three interfaces, and that 10.0.0.9 is behind the last one."""

    def found() -> dict[str, list[SimpleNamespace]]:
        return {name: [SimpleNamespace(address=address) for address in each] for name, each in ADDRESSES.items()}

    monkeypatch.setattr(psutil, "net_if_addrs", found)
    monkeypatch.setattr(network, "source_address", lambda peer: {"10.0.0.9": "10.0.0.7"}.get(peer))


def test_this_host_reaches_itself_by_the_loopback() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert interface_of("127.0.0.1") == "lo"


def test_there_is_no_address_towards_a_host_without_a_name() -> None:
    assert source_address("host.invalid") is None
    assert interface_of(None) is None


@pytest.mark.usefixtures("interfaces")
def test_the_interface_that_sagemaker_names_is_used_if_it_exists() -> None:
    assert find_interface("eth0", "10.0.0.9") == "eth0"
    assert find_interface("ethwe", "10.0.0.9") == "eth1"
    assert find_interface("ethwe", "10.1.1.1") is None


@pytest.mark.usefixtures("interfaces")
def test_addresses_of_both_families_are_known() -> None:
    assert interface_of("fd00::7") == "eth1"
    assert interface_of("fe80::1") == "eth0"
