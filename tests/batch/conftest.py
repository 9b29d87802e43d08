"""A small transform: nine objects, and a container that predicts their sizes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batch import client as transform_client
from support.transform_container import Container
from transform import TransformConfig


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    monkeypatch.setattr(transform_client, "BACKOFF_SECONDS", 0.01)
    with Container() as container:
        yield container


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Objects of 1 to 9 bytes, one in a sub-folder; info.csv names them backwards."""
    folder = tmp_path / "eval" / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    names = [f"{size}.jpg" for size in range(1, 9)] + ["deep/er/9.jpg"]
    for size, name in enumerate(names, 1):
        (folder / name).write_bytes(bytes(size))
    (tmp_path / "eval" / "info.csv").write_text("\n".join(["ImageID,ans", *(f"{name},0" for name in reversed(names))]))
    return tmp_path / "eval"


@pytest.fixture
def config(container: Container, objects: Path, tmp_path: Path) -> TransformConfig:
    return TransformConfig(
        data_dir=objects, output_dir=tmp_path / "output", model_dir=tmp_path / "elsewhere", url=container.url
    )
