"""A model folder is served as training left it, or rejected with one sentence."""

import hashlib
import json
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from engines.torch_engine import TorchEngine
from model import BaseModel
from predictor import Predictor
from runtime.errors import DataError, ModelError
from server.classifier import Classifier
from server.settings import ServeConfig
from support.serving import publish_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_model(tmp_path / "model")


def config(folder: Path) -> ServeConfig:
    return ServeConfig(model_dir=folder, device="cpu", batch_size=2)


def edit(folder: Path, **entries: Any) -> None:
    """Change entries of model.json."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def edit_preparation(folder: Path, **entries: Any) -> None:
    edit(folder, preparation=json.loads((folder / "model.json").read_text())["preparation"] | entries)


def edit_scheme(folder: Path, **entries: Any) -> None:
    edit(folder, scheme=json.loads((folder / "model.json").read_text())["scheme"] | entries)


def forge(folder: Path, weights: bytes) -> None:
    """Write other weights, with a description that has their digest."""
    (folder / "model.safetensors").write_bytes(weights)
    edit(folder, sha256=hashlib.sha256(weights).hexdigest())


def forge_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    forge(folder, safetensors.torch.save(tensors))


def link(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)


def only(folder: Path, make: Callable[[Path], object]) -> None:
    """Replace the two files with something else."""
    for path in folder.iterdir():
        path.unlink()
    make(folder)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def pack(folder: Path) -> None:
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        archive.add(__file__, "model.safetensors")


def safetensors_file(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


OVERLAP = safetensors_file(
    {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("fc.weight", "fc.bias")}, bytes(8)
)

HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an old pickle": (
        lambda folder: only(folder, lambda at: torch.save(BaseModel(18).state_dict(), at / "best.pth")),
        "serving reads model.safetensors and model.json only, found best.pth; train again",
    ),
    "an archive": (lambda folder: only(folder, pack), "found model.tar.gz; unpack it"),
    "a pickle by another name": (lambda folder: forge(folder, pickle.dumps({"a": 1})), "cannot be read"),
    "weights that are a link": (lambda folder: link(folder, "model.safetensors"), "model.safetensors is a link"),
    "a description that is a link": (lambda folder: link(folder, "model.json"), "model.json is a link"),
    "weights that are a folder": (
        lambda folder: replaced(folder / "model.safetensors", Path.mkdir),
        "model.safetensors is missing",
    ),
    "a pipe": (lambda folder: replaced(folder / "model.json", os.mkfifo), "model.json is missing"),
    "a huge description": (
        lambda folder: os.truncate(folder / "model.json", 1 << 40),
        f"model.json is larger than the {10 << 20} bytes allowed",
    ),
    "huge weights": (lambda folder: os.truncate(folder / "model.safetensors", 1 << 40), "larger than"),
    "one byte changed": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-1] + b"\x01"
        ),
        "is damaged",
    ),
    "cut off": (
        lambda folder: forge(folder, (folder / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors cannot be read",
    ),
    "an oversize header": (lambda folder: forge(folder, struct.pack("<Q", 1 << 60)), "cannot be read"),
    "overlapping tensors": (lambda folder: forge(folder, OVERLAP), "cannot be read"),
    "nothing inside": (lambda folder: forge(folder, safetensors_file({})), "another architecture"),
    "not a number": (
        lambda folder: forge_tensors(folder, lambda tensors: tensors["fc.bias"].fill_(float("nan"))),
        "not finite",
    ),
    "infinity": (
        lambda folder: forge_tensors(folder, lambda tensors: tensors["fc.bias"].fill_(float("inf"))),
        "not finite",
    ),
    "predictions that are not finite": (
        lambda folder: forge_tensors(folder, lambda tensors: tensors["fc.weight"].fill_(3e38)),
        "the model returns NaN or infinity for a test image",
    ),
    "another shape": (
        lambda folder: forge_tensors(folder, lambda tensors: tensors.update({"fc.bias": torch.zeros(3)})),
        "expected",
    ),
    "another rank": (
        lambda folder: forge_tensors(folder, lambda tensors: tensors.update({"fc.bias": torch.zeros(18, 1)})),
        "expected",
    ),
    "another number of classes": (
        lambda folder: edit(folder, scheme={"name": "x", "classes": ["a", "b"], "tasks": []}),
        "for another number of classes",
    ),
    "one class": (lambda folder: edit(folder, scheme={"name": "x", "classes": ["a"], "tasks": []}), "at least 2"),
    "classes that are numbers": (
        lambda folder: edit_scheme(folder, classes=list(range(18))),
        "expected a list of texts",
    ),
    "a class name that cannot be sent": (
        lambda folder: edit_scheme(folder, classes=[f"\ud800{label}" for label in range(18)]),
        "cannot be built",
    ),
    "tasks that are no tasks": (lambda folder: edit_scheme(folder, tasks="mask"), "not one of this job"),
    "another architecture": (lambda folder: edit(folder, architecture="resnet18"), "another architecture"),
    "an unknown architecture": (lambda folder: edit(folder, architecture="os.system"), "unknown model 'os.system'"),
    "an architecture that is a list": (lambda folder: edit(folder, architecture=["x"]), "cannot be built"),
    "another format": (lambda folder: edit(folder, format=99), "format 99"),
    "no JSON": (lambda folder: (folder / "model.json").write_text("{"), "model.json is not JSON"),
    "no text": (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe\x00"), "model.json is not JSON"),
    "another JSON": (lambda folder: (folder / "model.json").write_text("[]"), "is damaged or belongs to another"),
    "deep JSON": (lambda folder: (folder / "model.json").write_text("[" * 10**6), "is not JSON"),
    "a size in words": (lambda folder: edit_preparation(folder, size="large"), "not that of an image"),
    "a size that takes the memory": (lambda folder: edit_preparation(folder, size=[10**6, 10**6]), "not that of a"),
    "a size below zero": (lambda folder: edit_preparation(folder, size=[-32, -24]), "not that of an image"),
    "a crop of nothing": (lambda folder: edit_preparation(folder, crop=[0, 0]), "not that of an image"),
    "a deviation of zero": (lambda folder: edit_preparation(folder, std=[0, 1, 1]), "is not three numbers"),
    "two means": (lambda folder: edit_preparation(folder, mean=[0, 1]), "is not three numbers"),
    "a mean that is none": (lambda folder: edit_preparation(folder, mean=["0", 1, 1]), "cannot be built"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_rejected_with_a_sentence(name: str, folder: Path) -> None:
    spoil, sentence = HOSTILE[name]
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        Classifier(config(folder)).warm_up()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_an_empty_folder_are_reported(tmp_path: Path) -> None:
    for path, sentence in ((tmp_path / "none", "SM_MODEL_DIR does not exist"), (tmp_path, "SM_MODEL_DIR is empty")):
        with pytest.raises(DataError, match=sentence):
            Classifier(config(path))


def test_a_run_folder_is_found_and_each_model_has_its_own_digest(tmp_path: Path) -> None:
    publish_model(tmp_path / "models" / "exp", seed=1)
    publish_model(tmp_path / "other", seed=2)
    found = [Classifier(config(tmp_path / name)).digest for name in ("models", "models/exp", "other")]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("fills_up", "expected"), [(False, [1, 9]), (True, [1, 2, 4, 8, 16])])
def test_one_batch_of_each_size_has_run_before_the_first_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fills_up: bool, expected: list[int]
) -> None:
    sizes: list[int] = []
    logits = Predictor.logits

    def spy(predictor: Predictor, pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return logits(predictor, pixels)

    monkeypatch.setattr(Predictor, "logits", spy)
    ready = Classifier(replace(config(folder), batch_size=9))
    assert isinstance(ready._engine, TorchEngine)
    ready._engine._predictor.fills_up = fills_up
    ready.warm_up()
    assert sizes == expected


def test_probabilities_add_up_to_one(folder: Path) -> None:
    ready = Classifier(config(folder))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 24, 3), dtype=np.uint8)
    found = ready(pixels)
    assert found.shape == (5, 18)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_only_as_many_cpus_are_used_as_allowed(folder: Path) -> None:
    assert Classifier(replace(config(folder), threads=1)).cpus == torch.get_num_threads() == 1


def test_convolutions_are_deterministic(folder: Path) -> None:
    Classifier(config(folder))
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
