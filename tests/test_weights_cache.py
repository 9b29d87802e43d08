"""Cached weights are found by the name of the model, and their notes say where they are from."""

import json
from pathlib import Path

import pytest

from runtime.errors import ModelError
from weights_cache import Notes, Statistics, cache_dir, find, find_file, folder_of, notes_path, read_notes

NOTES = Notes(
    model="resnet18",
    source="https://example.org/resnet18.pth",
    licence="BSD-3-Clause",
    sha256="0" * 64,
    statistics=Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


def fill(folder: Path, name: str = "weights.pth") -> Path:
    """Write a file of weights, and its notes, as `make weights` leaves them."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"weights")
    notes_path(folder / name).write_text(NOTES.to_json())
    return folder


@pytest.mark.parametrize("model", ["resnet18", "timm/convnext_tiny.dinov3_lvd1689m", "timm/resnet18"])
def test_the_weights_of_a_model_are_found_by_its_name(model: str, tmp_path: Path) -> None:
    assert find(model, tmp_path) is None
    assert find(model, fill(tmp_path / model).parents[model.count("/")]) == tmp_path / model
    assert find(f"{model}x", tmp_path) is None


def test_the_folder_of_a_library_is_not_a_model(tmp_path: Path) -> None:
    fill(tmp_path / "timm/resnet18")
    assert find("timm", tmp_path) is None


def test_a_folder_without_notes_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "resnet18/weights.pth").write_bytes(b"weights")
    assert find("resnet18", tmp_path) is None


def test_other_files_beside_cached_weights_do_not_count(tmp_path: Path) -> None:
    folder = fill(tmp_path / "resnet18")
    for name in ("._weights.pth", "._weights.pth.json", "config.json", "README.md"):
        (folder / name).write_text("{}")
    assert find_file(folder) == folder / "weights.pth"
    (folder / "weights.pth").unlink()
    assert find("resnet18", tmp_path) is None, "notes alone are no weights"


@pytest.mark.parametrize("model", ["", ".", "..", "../x", "/x", "timm/..", "a/b/c", "a\0b", "a//b", "timm/"])
def test_no_name_leads_out_of_the_cache(model: str, tmp_path: Path) -> None:
    fill(tmp_path / "x")
    assert folder_of(model, tmp_path / "cache") is None
    assert find(model, tmp_path / "cache") is None


def test_the_cache_is_where_the_system_keeps_caches_unless_it_is_given() -> None:
    assert cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/mask-classifier/weights")
    assert cache_dir({}) == Path.home() / ".cache/mask-classifier/weights"
    assert cache_dir({"XDG_CACHE_HOME": "/x", "WEIGHTS_CACHE": "/y"}) == Path("/y")
    assert cache_dir({"WEIGHTS_CACHE": "~/y"}) == Path.home() / "y"


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = fill(tmp_path / "resnet18")
    assert read_notes(folder / "weights.pth") == NOTES
    record = json.loads(notes_path(folder / "weights.pth").read_text())
    assert list(record) == ["model", "source", "licence", "sha256", "mean", "std"]
    assert read_notes(folder / "other.pth") is None


@pytest.mark.parametrize(
    ("name", "value"), [("mean", [0, 1]), ("std", [1, 1, 0]), ("mean", [1, 2, "x"]), ("sha256", 1), ("licence", None)]
)
def test_notes_that_say_something_else_are_an_error(name: str, value: object, tmp_path: Path) -> None:
    path = fill(tmp_path / "resnet18") / "weights.pth"
    for text in (json.dumps(json.loads(NOTES.to_json()) | {name: value}), "[1]", "{}", "junk"):
        notes_path(path).write_text(text)
        with pytest.raises(ModelError, match=r"^the notes beside the weights cannot be read .*weights\.pth\.json$"):
            read_notes(path)
