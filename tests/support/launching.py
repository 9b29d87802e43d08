"""A hand-made /opt/ml, and the launcher in this process up to the point where it would become the command."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import launch
from config import TrainConfig
from runtime.arguments import parse

HOSTILE = "it's; $(touch x) `id` | & > --epochs 9 \N{SNOWMAN}"


class Started(Exception):
    """The process that the launcher would have become."""

    def __init__(self, program: str, words: list[str], environ: dict[str, str]) -> None:
        super().__init__(program)
        self.words, self.environ = words, environ

    @property
    def config(self) -> TrainConfig:
        (config,) = parse("train.py", self.words[2:], self.environ, TrainConfig)
        assert isinstance(config, TrainConfig)
        return config


Start = Callable[..., Started]


@contextmanager
def training_tree(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create the tree of a training job and set it as /opt/ml; sagemaker_training is imported again to read it."""
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "data" / "train").mkdir(parents=True)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("SM_")]:
        del os.environ[name]
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    for name in [name for name in sys.modules if name.startswith("sagemaker_training")]:
        monkeypatch.delitem(sys.modules, name)
    yield base
    os.environ.clear()
    os.environ.update(before)


def write_config(base: Path, name: str, content: Any) -> None:
    """Write input/config/NAME.json."""
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


def launcher(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that launches a command up to the point where it would replace the process."""

    def execve(program: str, words: list[str], environ: dict[str, str]) -> None:
        raise Started(program, words, environ)

    def start(*words: str) -> Started:
        with pytest.raises(Started) as stopped:
            launch.launch(["launch.py", *words])
        return stopped.value

    monkeypatch.setattr(os, "execve", execve)
    return start
