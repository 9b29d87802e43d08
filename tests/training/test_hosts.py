"""All hosts agree on their order, whatever they are told."""

import json

import pytest

from runtime.errors import ConfigError
from training.hosts import PORT, Hosts, order_hosts, read_hosts, read_port

NAMES = ("algo-1", "algo-2", "algo-10")


@pytest.mark.parametrize("given", [NAMES, NAMES[::-1], ("algo-10", "algo-1", "algo-2")])
def test_the_order_of_hosts_does_not_depend_on_the_order_given(given: tuple[str, ...]) -> None:
    hosts = [order_hosts(list(given), name) for name in NAMES]
    assert [each.names for each in hosts] == [NAMES] * 3
    assert [each.rank for each in hosts] == [0, 1, 2]


def test_without_variables_there_is_one_host() -> None:
    assert not read_hosts({}).are_several
    assert read_hosts({"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"}) == Hosts(("algo-1",), "algo-1")


@pytest.mark.parametrize(
    ("names", "current", "sentence"),
    [
        ("algo-1", "algo-1", "hosts is 'algo-1' .* expected a list of names"),
        (["algo-1", 2], "algo-1", "expected a list of names"),
        (["algo-1", "algo-2"], "algo-3", "current_host is 'algo-3' .* expected one of the hosts"),
        (["algo-1", "algo-1"], "algo-1", "a name twice"),
    ],
)
def test_hosts_that_make_no_sense_are_rejected(names: object, current: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_hosts({"SM_HOSTS": json.dumps(names), "SM_CURRENT_HOST": current})


def test_hosts_that_are_not_json_are_rejected() -> None:
    with pytest.raises(ConfigError, match="expected a list of names"):
        read_hosts({"SM_HOSTS": "algo-1,algo-2", "SM_CURRENT_HOST": "algo-1"})


def test_the_port_is_that_of_the_variable_or_the_usual_one() -> None:
    assert [read_port(environ) for environ in ({}, {"MASTER_PORT": ""}, {"MASTER_PORT": "123"})] == [PORT, PORT, 123]


@pytest.mark.parametrize("text", ["abc", "0", "-1", "70000", "1.5"])
def test_a_port_that_is_none_is_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^MASTER_PORT is '{text}', expected the number of a port"):
        read_port({"MASTER_PORT": text})
