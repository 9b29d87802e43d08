"""Commands of submit.py with --dry-run: no account, no network."""

import json
import os
import socket
from typing import Any

import pytest

import submit
from support.job_requests import IMAGE, ROLE, DryRunCommand


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove credentials and region, and make every connection fail."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")

    def refuse(*args: object) -> None:
        raise AssertionError("a dry run went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def dry_run(offline: None, capsys: pytest.CaptureFixture[str]) -> DryRunCommand:
    location = ("--role", ROLE, "--bucket", "my-bucket", "--region", "eu-west-1", "--image", IMAGE)

    def run(command: str, *words: str) -> tuple[dict[str, Any], str]:
        submit.main([command, "--dry-run", *location, *words], {})
        printed = capsys.readouterr()
        return json.loads(printed.out), printed.err

    return run
