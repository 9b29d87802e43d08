"""Weights are fetched once, checked, and kept with their source and licence; nothing half is ever left."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from initial_weights import IMAGENET, InitialWeights, fetch_weights
from labels import LabelScheme
from model import create_model
from networks import fetch
from networks.fetch import find_publication
from networks.timm_networks import statistics_of
from runtime.errors import ModelError
from runtime.locks import locked
from support.weights_server import WeightsServer, serving_weights
from weights_cache import find, read_notes

TIMM = "timm/test_vit.r160_in1k"
TIMM_PATH = f"/{TIMM}/resolve/main/model.safetensors"
PLAIN = LabelScheme("folders", ("cat", "dog", "bird"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """Publish weights of both libraries, with names that tell their digests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving_weights() as server:
        server.files[TIMM_PATH] = safetensors.torch.save(timm.create_model("test_vit").state_dict())
        yield server


def publish_torchvision(server: WeightsServer, monkeypatch: pytest.MonkeyPatch, folder: Path, digits: str = "") -> str:
    """Publish weights of a torchvision network under a name with the digits of their sha256; returns the path."""
    path = folder / "published.pth"
    torch.save(torchvision.models.get_model("squeezenet1_1").state_dict(), path)
    data = path.read_bytes()
    name = f"/squeezenet1_1-{digits or hashlib.sha256(data).hexdigest()[:8]}.pth"
    server.files[name] = data
    monkeypatch.setattr(fetch, "_at", lambda url, mirror: mirror + name)
    return name


def test_weights_of_torchvision_are_fetched_once(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, cache = publish_torchvision(server, monkeypatch, tmp_path), tmp_path / "cache"
    assert find("squeezenet1_1", cache) is None
    folder, is_new = fetch_weights("squeezenet1_1", cache, server.address)
    assert (folder, is_new) == (cache / "squeezenet1_1", True)
    assert find("squeezenet1_1", cache) == folder
    (file,) = folder.glob("*.pth")
    assert file.read_bytes() == server.files[path]
    notes = read_notes(file)
    assert notes
    assert (notes.model, notes.source, notes.statistics) == ("squeezenet1_1", server.address + path, IMAGENET)
    assert notes.licence.startswith("BSD-3-Clause")
    assert fetch_weights("squeezenet1_1", cache, server.address) == (folder, False)
    assert server.requests == [f"GET {path}"]


def test_weights_of_timm_are_fetched_once_and_used_as_they_are(server: WeightsServer, tmp_path: Path) -> None:
    folder, is_new = fetch_weights(TIMM, tmp_path, server.address)
    assert (folder, is_new) == (tmp_path / TIMM, True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "test_vit.r160_in1k.safetensors",
        "test_vit.r160_in1k.safetensors.json",
    ]
    notes = read_notes(folder / "test_vit.r160_in1k.safetensors")
    assert notes
    assert (notes.source, notes.licence) == (server.address + TIMM_PATH, "apache-2.0")
    assert notes.statistics == statistics_of(TIMM)
    requests = list(server.requests)
    assert fetch_weights(TIMM, tmp_path, server.address) == (folder, False)
    assert server.requests == requests
    weights = InitialWeights.read(TIMM, "auto", folder)
    assert weights
    assert weights.statistics == notes.statistics
    assert "; zero: backbone.head.weight, backbone.head.bias" in weights.copy_into(
        create_model(TIMM, PLAIN, size=(32, 32))
    )


def test_a_file_of_another_digest_is_not_kept(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish_torchvision(server, monkeypatch, tmp_path, "0123abcd")
    server.digests[TIMM_PATH] = "0" * 64
    for model in ("squeezenet1_1", TIMM):
        with pytest.raises(ModelError, match=f"the weights of '{model}' are not those that were published"):
            fetch_weights(model, tmp_path / "cache", server.address)
        assert find(model, tmp_path / "cache") is None


@pytest.mark.parametrize("model", ["squeezenet1_1", TIMM])
def test_an_interrupted_download_leaves_nothing_and_the_next_one_completes_it(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download._RETRY_SLEEP", 0, raising=False)
    publish_torchvision(server, monkeypatch, tmp_path)
    server.breaks_off = True
    with pytest.raises(ModelError, match=f"the weights of '{model}' (cannot be fetched|are not those)"):
        fetch_weights(model, tmp_path / "cache", server.address)
    assert find(model, tmp_path / "cache") is None
    server.breaks_off = False
    assert fetch_weights(model, tmp_path / "cache", server.address)[1]
    assert find(model, tmp_path / "cache")


def test_what_a_killed_fetch_left_does_not_disturb(server: WeightsServer, tmp_path: Path) -> None:
    left = tmp_path / ".partial/timm--test_vit.r160_in1k"
    (left / ".cache").mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    folder, _ = fetch_weights(TIMM, tmp_path, server.address)
    assert len(list(folder.iterdir())) == 2


def test_cached_weights_that_were_damaged_are_fetched_again(server: WeightsServer, tmp_path: Path) -> None:
    folder, _ = fetch_weights(TIMM, tmp_path, server.address)
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(b"damaged")
    assert fetch_weights(TIMM, tmp_path, server.address) == (folder, True)
    assert file.read_bytes() == server.files[TIMM_PATH]


def test_two_processes_that_fetch_at_once_fetch_once(server: WeightsServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool, locked(tmp_path / ".partial/timm--test_vit.r160_in1k"):
        fetches = [pool.submit(fetch_weights, TIMM, tmp_path, server.address) for _ in range(2)]
        assert wait(fetches, timeout=0.2).not_done, "both wait for the lock"
    assert sorted(fetch.result() for fetch in fetches) == [(tmp_path / TIMM, False), (tmp_path / TIMM, True)]
    assert len([request for request in server.requests if request.startswith("GET")]) == 1


def test_cached_weights_stay_until_others_are_fetched(server: WeightsServer, tmp_path: Path) -> None:
    folder, _ = fetch_weights(TIMM, tmp_path, server.address)
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(b"damaged")
    server.files.clear()
    with pytest.raises(ModelError, match="cannot be fetched"):
        fetch_weights(TIMM, tmp_path, server.address)
    assert file.read_bytes() == b"damaged"


def test_without_a_network_a_sentence_says_what_to_do(server: WeightsServer, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(
        ModelError, match=r"^the weights of 'timm/test_vit.* cannot be fetched \(.*404.*; try again, or"
    ):
        fetch_weights(TIMM, tmp_path, server.address)
    with pytest.raises(
        ModelError, match=r"cannot be fetched \(.*refused.*--pretrained FILE: http://127.0.0.1:9/resnet"
    ):
        fetch_weights("resnet18", tmp_path, "http://127.0.0.1:9")


@pytest.mark.parametrize("model", ["BaseModel", "TinyModel", "timm/resnet10"])
def test_a_network_without_published_weights_is_an_error(model: str) -> None:
    with pytest.raises(ModelError, match=f"^no weights are published for '{model}'; give "):
        find_publication(model)


def test_every_file_of_torchvision_tells_its_digest_and_the_licences_are_those_stated() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        assert fetch._DIGITS.search(find_publication(name).url), name
    assert "SWAG" in find_publication("vit_h_14").licence


def test_download_fetches_weights_of_timm_into_the_cache(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEIGHTS_CACHE", str(tmp_path))
    fetch_weights(TIMM, tmp_path, server.address)
    requests = list(server.requests)
    found = InitialWeights.read(TIMM, "download", None)
    assert found
    assert found.where == str(tmp_path / TIMM)
    assert server.requests == requests
