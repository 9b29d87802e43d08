"""Weights of torchvision: downloaded, from its cache, or a sentence that says what to do."""

import urllib.request
from pathlib import Path

import pytest
import torch
import torchvision

from labels import MASKED_FACES
from model import create_model
from runtime.errors import ModelError
from support.pretrained_weights import State, fits, imagenet, load_pretrained, resnet18


def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: State | bytes) -> None:
    """Put a file into the cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(urllib.request, "_opener", None)  # that of an earlier test knows no proxy
    path = tmp_path / "hub" / "checkpoints" / torchvision.models.get_model_weights(name)["DEFAULT"].url.split("/")[-1]
    path.parent.mkdir(parents=True)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)


@pytest.mark.parametrize("name", ["MyModel", "resnet18"])
def test_downloaded_weights_are_those_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state, model = imagenet(), resnet18()
    cache(tmp_path, monkeypatch, "resnet18", state)
    assert load_pretrained(model, "download", name).startswith(
        "120 of 122 tensors from torchvision's resnet18; random: "
    )
    assert fits(model, state, "backbone.")


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path, monkeypatch, "resnet34", {})
    sentence = r"^the weights of 'resnet18' cannot be downloaded \(.*refused.*\); give them as the `pretrained` channel"
    with pytest.raises(ModelError, match=sentence):
        load_pretrained(resnet18(), "download", "resnet18")


def test_a_damaged_download_is_a_sentence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path, monkeypatch, "resnet18", b"")
    with pytest.raises(ModelError, match="the weights of 'resnet18' cannot be downloaded"):
        load_pretrained(resnet18(), "download", "resnet18")


@pytest.mark.parametrize("name", ["BaseModel", "TinyModel"])
def test_torchvision_has_no_weights_for_the_networks_of_this_job(name: str) -> None:
    with pytest.raises(
        ModelError, match=f"torchvision has no weights for '{name}'; give a file with --pretrained FILE"
    ):
        load_pretrained(create_model(name, MASKED_FACES), "download", name)
