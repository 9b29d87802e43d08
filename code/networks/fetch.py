"""Published weights, fetched into the cache of this machine: once, checked against the digest that was published.

torchvision and timm know where their weights are. torchvision's are files whose names end with the first digits of
their sha256; those of timm are on Hugging Face, which tells the sha256 of a file, and a few are files as torchvision's.
"""

import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from networks.timm_networks import is_timm, published_config
from runtime.errors import ModelError, reason_of
from runtime.files import file_sha256, make_folder, replacing
from runtime.locks import locked
from weights_cache import Notes, Statistics, find_file, folder_of, notes_path, read_notes

TIMEOUT_SECONDS = 30.0  # without a byte
TIMM_FILE = "model.safetensors"  # in a repository of timm on Hugging Face
_BSD = "BSD-3-Clause, as torchvision"
_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.[a-z.]+$")


@dataclass(frozen=True)
class Publication:
    """Where the weights of a model are published: a file at a URL, or in a repository of Hugging Face."""

    url: str
    licence: str
    repository: str = ""
    endpoint: str | None = None  # of Hugging Face; None for its own address

    @property
    def file_name(self) -> str:
        name = self.url.rpartition("/")[2]
        return f"{self.repository.rpartition('/')[2]}.safetensors" if self.repository else name


def find_publication(model: str, mirror: str = "") -> Publication:
    """Return where the weights of a model are published; a `mirror` is an address to fetch from instead.

    Raises ModelError if there are none.
    """
    if is_timm(model):
        return _of_timm(model, mirror)
    import torchvision

    if model not in torchvision.models.list_models(module=torchvision.models):
        raise ModelError(
            f"no weights are published for {model!r}; give a model of torchvision, or of timm as timm/NAME, or "
            "weights of your own to train with --pretrained FILE"
        )
    weights = torchvision.models.get_model_weights(model)["DEFAULT"]
    return Publication(_at(str(weights.url), mirror), weights.meta.get("license", _BSD))


def _of_timm(model: str, mirror: str) -> Publication:
    from huggingface_hub import hf_hub_url

    found = published_config(model)
    licence = found["license"] or "not stated"
    if repository := found["hf_hub_id"]:
        name = found["hf_hub_filename"] or TIMM_FILE
        endpoint = mirror or None
        return Publication(hf_hub_url(repository, name, endpoint=endpoint), licence, repository, endpoint)
    if not found["url"]:
        raise ModelError(f"no weights are published for {model!r}; give the tag of some, such as timm/resnet18.a1_in1k")
    return Publication(_at(found["url"], mirror), licence)


def _at(url: str, mirror: str) -> str:
    return f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}" if mirror else url


def fetch(model: str, publication: Publication, statistics: Statistics, cache: Path) -> tuple[Path, bool]:
    """Return the folder of a model's weights in the cache, and True if they were fetched now.

    `statistics` are the mean and std for their notes. Cached weights whose sha256 differs from their notes are fetched
    again. The folder is there when it is complete, however this ends; one that is replaced stays until the new one is.
    Raises ModelError for weights that cannot be fetched, or are not those that were published.
    """
    folder = folder_of(model, cache)
    assert folder, "the name of a published model is that of a folder"
    if _is_intact(folder):
        return folder, False
    lock = cache / ".partial" / model.replace("/", "--")
    with locked(lock):
        if _is_intact(folder):  # another process has fetched them while this one waited
            return folder, False
        for left in lock.iterdir():  # by a fetch that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        partial = lock / "weights"
        partial.mkdir()
        path = _download(model, publication, partial)
        notes = Notes(model, publication.url, publication.licence, file_sha256(path), statistics)
        with replacing(notes_path(path)) as file:
            file.write(notes.to_json())
        make_folder(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder, True


def _is_intact(folder: Path) -> bool:
    """Return True if a folder holds the weights that the notes in it describe."""
    path = find_file(folder)
    notes = read_notes(path) if path else None
    return bool(path and notes and notes.sha256 == file_sha256(path))


def _download(model: str, publication: Publication, folder: Path) -> Path:
    """Download the file into a folder, and compare its sha256 with the one that was published."""
    path, before = folder / publication.file_name, socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        expected = _from_hub(publication, path) if publication.repository else _from_url(publication, path)
    except Exception as error:  # urllib, httpx and huggingface_hub raise errors of many types
        raise ModelError(
            f"the weights of {model!r} cannot be fetched ({reason_of(error)}); try again, or give them as the "
            f"`pretrained` channel, or a file with --pretrained FILE: {publication.url}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    if not (found := file_sha256(path)).startswith(expected):
        path.unlink()
        raise ModelError(
            f"the weights of {model!r} are not those that were published (their sha256 begins with "
            f"{found[: len(expected)]}, expected {expected}); try again, or fetch from elsewhere: {publication.url}"
        )
    return path


def _from_url(publication: Publication, path: Path) -> str:
    """Download a file, and return the digits of the sha256 in its name; none if it has none.

    What torch.hub has downloaded earlier is copied from its cache instead, if its sha256 has these digits.
    """
    from torch.hub import download_url_to_file, get_dir

    found, known = _DIGITS.search(publication.url), Path(get_dir()) / "checkpoints" / publication.file_name
    digits = found[1] if found else ""
    if digits and known.is_file() and file_sha256(known).startswith(digits):
        shutil.copyfile(known, path)
    else:
        download_url_to_file(publication.url, str(path), progress=False)
    return digits


def _from_hub(publication: Publication, path: Path) -> str:
    """Download a file from Hugging Face, and return its sha256 as it tells it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download

    name = publication.url.rpartition("/")[2]
    told = get_hf_file_metadata(publication.url, endpoint=publication.endpoint).etag or ""
    local = hf_hub_download(publication.repository, name, local_dir=path.parent, endpoint=publication.endpoint)
    Path(local).rename(path)
    shutil.rmtree(path.parent / ".cache", ignore_errors=True)
    return told if re.fullmatch("[0-9a-f]{64}", told) else ""
