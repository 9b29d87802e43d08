"""The result of a run depends on its data and its options, and not on how images get to the model."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config import TrainConfig
from data import image_store
from data.image_store import ImageStore
from model_files import load
from runtime.errors import DataError
from support.held_back import hold_back
from support.processes import Process
from train import train
from training.inputs import read_data
from training.trainer import Trainer

CODE = Path(__file__).parents[1] / "code"
QUICK = TrainConfig(
    epochs=2,
    batch_size=16,
    resize=(32, 24),
    model="TinyModel",
    augmentation="StrongAugmentation",
    mixup=0.2,
    val_ratio=0.34,
    device="cpu",
    threads=1,
)
pytestmark = pytest.mark.usefixtures("without_report")
Faces = Callable[..., Path]
Weights = dict[str, torch.Tensor]


@pytest.fixture
def run(faces: Faces, tmp_path: Path) -> Callable[..., tuple[Weights, bytes]]:
    """Train on the same images with other options that change no bit; returns the weights and metrics.jsonl."""
    folder = faces(12)

    def run(store_dir: Path | None = None, **changes: object) -> tuple[Weights, bytes]:
        name = f"run{len(list(tmp_path.iterdir()))}"
        config = replace(QUICK, name=name, **changes)  # type: ignore[arg-type]
        train(folder, tmp_path / name / "model", config, output_dir=tmp_path, store_dir=store_dir)
        return load(tmp_path / name / "model")[0].state_dict(), (tmp_path / name / "metrics.jsonl").read_bytes()

    return run


def assert_same(first: tuple[Weights, bytes], second: tuple[Weights, bytes]) -> None:
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for name, tensor in first[0].items():
        assert torch.equal(tensor, second[0][name]), name


def test_training_ends_with_the_same_bits_however_its_images_were_decoded_and_stored(
    run: Callable[..., tuple[Weights, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run()
    for threads in (0, 2, 4):
        assert_same(expected, run(threads=threads))
    assert_same(expected, run(store_memory=0.0))
    assert_same(expected, run(on_bad_image="skip"))  # decoded before the first step instead of meanwhile
    assert_same(expected, run(store_dir=tmp_path / "store"))
    monkeypatch.setattr("data.image_store.DecodePool", lambda *_, **__: pytest.fail("a warm store decodes nothing"))
    assert_same(expected, run(store_dir=tmp_path / "store"))


def test_training_begins_before_the_last_image_is_decoded(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, config = faces(6), replace(QUICK, epochs=1, batch_size=2)
    split = read_data(root, config, torch.device("cpu")).split
    later, gate = [path for path, _, _, part in split if part == "val"], tmp_path / "first step"
    stores: list[ImageStore] = []
    create, step = ImageStore.__init__, Trainer.step

    def spy_on_store(store: ImageStore, *arguments: Any, **options: Any) -> None:
        create(store, *arguments, **options)
        stores.append(store)

    def spy_on_step(trainer: Trainer, *arguments: Any) -> Any:
        assert gate.exists() or not stores[0].complete
        gate.touch()
        return step(trainer, *arguments)

    hold_back(later, gate, monkeypatch)
    monkeypatch.setattr(ImageStore, "__init__", spy_on_store)
    monkeypatch.setattr(Trainer, "step", spy_on_step)
    train(root, tmp_path / "model", replace(config, threads=len(later) + 1), output_dir=tmp_path)
    assert stores[0].complete


def test_an_image_that_only_the_end_of_the_first_epoch_needs_is_checked(faces: Faces, tmp_path: Path) -> None:
    root = faces(12)
    for path in sorted(root.rglob("*.jpg"))[-7:]:
        path.write_bytes(b"text")
    config = replace(QUICK, epochs=1, batch_size=50)
    with pytest.raises(DataError, match="7 of 84 images cannot be used"):
        train(root, tmp_path / "model", config, output_dir=tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_ten_thousand_images_that_do_not_fit_into_their_share_of_memory_train(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same few files under many names: the pixels take as much memory as those of different ones."""
    profiles = sorted(faces(6).iterdir())
    root = tmp_path / "many"
    for person in range(1429):
        profile = profiles[person % 6]
        copy = root / f"{person:06}_{profile.name.split('_', 1)[1]}"
        copy.mkdir(parents=True)
        for path in profile.iterdir():
            os.link(path, copy / path.name)
    config = replace(QUICK, epochs=1, batch_size=500, augmentation="BaseAugmentation")
    monkeypatch.setattr(image_store, "free_memory_bytes", lambda: 40_000_000)  # half of it is less than 10,003 images
    assert isinstance(read_data(root, config, torch.device("cpu")).pixels, np.memmap)
    found = train(root, tmp_path / "model", config, output_dir=tmp_path)
    assert found["mask_accuracy"] > 0.5


def test_a_signal_that_comes_while_images_are_decoded_ends_the_job_at_once(faces: Faces, tmp_path: Path) -> None:
    faces()
    for path in (tmp_path / "train").rglob("*.jpg"):
        path.write_bytes(b"sleep")  # a disk that hangs
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop()); from data.decode_pool import DecodePool\n"
        "from runtime import failure; import train\n"
        "wait, DecodePool.__init__.__kwdefaults__['decoder'] = DecodePool.wait, 'support.hostile_decoders:decode'\n"
        "def spy(*arguments, **options): print('decoding', flush=True); wait(*arguments, **options)\n"
        "DecodePool.wait = spy\n"
        "failure.guard(train.main)"
    )
    environ = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "SM_CHANNEL_TRAIN": str(tmp_path / "train")}
    environ |= {"SM_MODEL_DIR": str(tmp_path / "model"), "SM_OUTPUT_DATA_DIR": str(tmp_path / "output")}
    environ |= {"PYTHONPATH": str(Path(__file__).parent)}
    line = [sys.executable, "-c", program, "--on-bad-image", "skip", "--threads", "2", str(CODE)]
    with Process(line, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "decoding\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not (tmp_path / "model").exists()
