"""`--pretrained download` takes weights from the cache or from that of torch.hub, or says what to do."""

import hashlib
import urllib.request
from pathlib import Path

import pytest
import torch

from labels import MASKED_FACES
from model import create_model
from networks import fetch
from runtime.errors import ModelError
from support.pretrained_weights import State, fits, imagenet, load_pretrained, resnet18

NOWHERE = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two empty caches, and publish weights where nothing can be downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("WEIGHTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "_opener", None)  # that of an earlier test may have a proxy
    monkeypatch.setattr(fetch, "_at", lambda url, mirror: f"{NOWHERE}/resnet18-01234567.pth")


def put_into_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State) -> Path:
    """Put published weights into the cache of torch.hub, under a name with the digits of their sha256."""
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / "weights.pth")
    digits = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    path = (folder / "weights.pth").rename(folder / f"resnet18-{digits}.pth")
    monkeypatch.setattr(fetch, "_at", lambda url, mirror: f"{NOWHERE}/{path.name}")
    return path


@pytest.mark.parametrize("name", ["MyModel", "resnet18"])
def test_weights_that_torch_hub_has_downloaded_are_copied_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state, model = imagenet(), resnet18()
    path = put_into_hub(tmp_path, monkeypatch, state)
    report = f"120 of 122 tensors from {tmp_path / 'cache' / name}; zero: "
    assert load_pretrained(model, "download", name).startswith(report)
    assert fits(model, state, "backbone.")
    path.unlink()
    assert load_pretrained(resnet18(), "download", name).startswith(report)


def test_damaged_weights_of_torch_hub_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_into_hub(tmp_path, monkeypatch, imagenet())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=f"the weights of 'resnet18' cannot be fetched .*: {NOWHERE}/{path.name}"):
        load_pretrained(resnet18(), "download", "resnet18")
    assert not (tmp_path / "cache/resnet18").exists()


def test_a_download_that_fails_says_what_to_do() -> None:
    sentence = r"^the weights of 'resnet18' cannot be fetched \(.*refused.*as the `pretrained` channel, or a file with"
    with pytest.raises(ModelError, match=sentence):
        load_pretrained(resnet18(), "download", "resnet18")


@pytest.mark.parametrize("name", ["BaseModel", "TinyModel"])
def test_no_weights_are_published_for_the_networks_of_this_job(name: str) -> None:
    sentence = f"no weights are published for '{name}'; give a model of .* own to train with --pretrained FILE"
    with pytest.raises(ModelError, match=sentence):
        load_pretrained(create_model(name, MASKED_FACES), "download", name)
