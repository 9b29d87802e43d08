"""The version is the one in pyproject.toml."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import version as version_module
from runtime.version import NAME, version

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def read_again() -> Iterator[None]:
    version.cache_clear()
    yield
    version.cache_clear()


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert version() == project["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())


@pytest.mark.parametrize("text", [None, "[tool.ruff]\nline-length = 120\n"])
def test_code_without_its_project_file_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(version_module, "_PROJECT", path)
    assert version() == "unknown"
