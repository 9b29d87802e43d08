"""An image that costs too much to decode is left out for the whole run, even if it costs less when it is resumed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from config import TrainConfig
from data.decode_pool import DecodePool
from runtime.errors import DataError
from train import train
from training.start import read_kept

pytestmark = pytest.mark.usefixtures("without_report")
SKIP = TrainConfig(
    model="TinyModel", epochs=1, resize=(32, 24), val_ratio=0.34, on_bad_image="skip", max_bad_ratio=0.1, threads=1
)
Run = Callable[[TrainConfig], None]


@pytest.fixture
def run(faces: Callable[..., Path], tmp_path: Path) -> Run:
    folder = faces(12)

    def run(config: TrainConfig) -> None:
        places: dict[str, Any] = {
            "output_dir": tmp_path / "output",
            "checkpoint_dir": tmp_path / "checkpoints",
            "store_dir": tmp_path / "store",
        }
        train(folder, tmp_path / "model", config, **places)

    return run


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let one image cost too much to decode; returns its path."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("COSTLY", "000003_female_Asian_45/mask2.jpg")
    pool = partial(DecodePool, decoder="support.hostile_decoders:decode_unless_costly")
    monkeypatch.setattr("data.image_store.DecodePool", pool)
    return "000003_female_Asian_45/mask2.jpg"


def parts(tmp_path: Path) -> dict[str, str]:
    table = pd.read_csv(tmp_path / "output/exp/split.csv")
    return dict(zip(table["path"], table["split"], strict=True))


def test_an_image_left_out_for_its_cost_stays_left_out_when_the_run_is_resumed(
    run: Run, costly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(SKIP)
    assert parts(tmp_path)[costly] == "unusable"
    assert read_kept(tmp_path / "checkpoints").too_expensive == [costly]
    assert not list((tmp_path / "store").iterdir()), "a cache of images that others may be able to decode"
    assert "needs more than the 1024 MiB of memory allowed to decode" in capsys.readouterr().err

    monkeypatch.setenv("COSTLY", "no image")
    run(replace(SKIP, decode_memory_mb=2048, decode_seconds=10.0))
    output = capsys.readouterr()
    assert "resumed after the last epoch" in output.out
    assert f"left out: took more to decode than was allowed before this run was resumed: {tmp_path}" in output.err

    run(replace(SKIP, resume="never"))
    assert pd.read_csv(tmp_path / "output/exp2/split.csv")["split"].isin(["train", "val"]).all()


def test_without_skip_such_an_image_ends_the_run(run: Run, costly: str) -> None:
    with pytest.raises(
        DataError, match=r"1 of 84 images cannot be used, .*: needs more than the 1024 MiB .*mask2\.jpg"
    ):
        run(replace(SKIP, on_bad_image="error"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"fingerprint": 1}', '{"fingerprint": {}}'])
def test_a_damaged_manifest_names_no_images(tmp_path: Path, text: str) -> None:
    (tmp_path / "step-1.json").write_text(text)
    assert read_kept(tmp_path).too_expensive == read_kept(tmp_path / "none").too_expensive == []
