"""Images that are not decoded before a test allows it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from data.decode_pool import DecodePool

TESTS = Path(__file__).parents[1]


def hold_back(paths: Sequence[str], gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the images of these paths back until the file `gate` exists; log each decoded image beside it.

    A training needs a process for each of them, and one for the others.
    """
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("GATED", ":".join([str(gate), *paths]))
    gated = partial(DecodePool, decoder="support.hostile_decoders:decode_after_gate")
    monkeypatch.setattr("data.image_store.DecodePool", gated)
