"""The address that the server prints is one to send requests to."""

import pytest
from urllib3.util import parse_url

from serve import base_url


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_the_url_of_an_address_names_its_host_and_port(host: str) -> None:
    found = parse_url(base_url(host, 8080))
    assert ((found.host or "").strip("[]"), found.port) == (host, 8080)
