"""Directory entries in a random order, as another file system may return them."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest


def shuffle_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have os.scandir return the entries of every folder in a random order."""
    scandir = os.scandir

    def shuffled(folder: Path) -> Iterator[os.DirEntry[str]]:
        entries = list(scandir(folder))
        random.shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(os, "scandir", shuffled)
