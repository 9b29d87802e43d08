"""The service in this process, once for each file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.settings import ServeConfig
from support.serving import InProcess, publish_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def config(model_dir: Path) -> ServeConfig:
    return ServeConfig(model_dir=model_dir, device="cpu", max_payload_mb=1)


@pytest.fixture(scope="module")
def server(config: ServeConfig) -> Iterator[InProcess]:
    with InProcess(config) as server:
        yield server.until_ready()
