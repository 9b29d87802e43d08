"""The name and the version of this project; the version is in pyproject.toml alone."""

import functools
import tomllib
from pathlib import Path

NAME = "mask-classifier"
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@functools.cache
def version() -> str:
    """Return `[project] version` of pyproject.toml, or `unknown` where the code lies without that file."""
    try:
        return str(tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"])
    except (FileNotFoundError, KeyError):
        return "unknown"
