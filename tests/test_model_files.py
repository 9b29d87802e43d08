"""A published model is complete and self-describing, holds no pickle, and a wrong one is rejected with a sentence."""

import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import model_folder
from calibration import NEVER, TemperatureScaling, UnsureThresholds
from config import TrainConfig
from data.images import Preparation
from description import DESCRIPTION, FORMAT, Description
from labels import MASKED_FACES, LabelScheme
from model import BaseModel
from model_files import ARCHIVE, LEGACY, WEIGHTS, find, load, publish
from runtime.errors import ModelError
from runtime.version import version
from support.archives import archive_of
from support.strange_files import KINDS, make_strange

DESCRIBED = Description(
    "TinyModel",
    "factored",
    MASKED_FACES,
    Preparation((64, 48), (320, 256), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
    {"f1": 0.5},
    {"lr": 0.1, "resize": [64, 48]},
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    publish(folder, DESCRIBED.build().state_dict(), DESCRIBED)
    return folder


def test_a_published_model_comes_back_with_its_weights_and_description(published: Path) -> None:
    model, description = load(published)
    assert description == DESCRIBED
    assert not model.training
    expected = safetensors.torch.load_file(published / WEIGHTS)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_temperature_and_thresholds_come_back(tmp_path: Path) -> None:
    fitted = replace(
        DESCRIBED,
        calibration=TemperatureScaling(1.75, 0.2, 0.04, 84),
        unsure_thresholds=UnsureThresholds(0.95, (0.5, NEVER) * 9, (7, 0) * 9),
    )
    publish(tmp_path, fitted.build().state_dict(), fitted)
    assert load(tmp_path)[1] == fitted


@pytest.mark.parametrize(
    "record",
    [
        {"calibration": {"temperature": 0.0, "error_before": 0.2, "error_after": 0.1, "images": 84}},
        {"calibration": {"temperature": 1.5}},
        {"calibration": "hot"},
        {"unsure_thresholds": {"min_precision": 0.9, "thresholds": [0.5], "images": [3]}},
        {"unsure_thresholds": [0.9] * 18},
    ],
    ids=str,
)
def test_a_calibration_that_training_never_writes_is_rejected(published: Path, record: dict[str, object]) -> None:
    path = published / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | record))
    with pytest.raises(ModelError, match=r"model\.json is not one of this job"):
        load(published)


def test_the_files_are_regular_and_readable_by_all(published: Path) -> None:
    assert sorted(path.name for path in published.iterdir()) == [DESCRIPTION, WEIGHTS]
    for path in published.iterdir():
        assert path.is_file()
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o644


def test_the_model_is_found_in_its_folder_above_it_and_in_an_archive(published: Path, tmp_path: Path) -> None:
    archive = archive_of(published, tmp_path / "elsewhere.tar.gz")
    inside = tmp_path / "far/channel"
    inside.mkdir(parents=True)
    archive_of(published, inside / ARCHIVE)
    for location in (published, published.parent, archive, inside):
        assert load(location)[1] == DESCRIBED


def test_several_runs_in_one_folder_are_rejected(published: Path) -> None:
    publish(published.with_name("model2"), DESCRIBED.build().state_dict(), DESCRIBED)
    with pytest.raises(ModelError, match=r"several models \(model, model2\)"):
        find(published.parent)


def test_publishing_again_replaces_the_whole_model(published: Path) -> None:
    other = Description("BaseModel", "joint", MASKED_FACES, Preparation())
    publish(published, other.build().state_dict(), other)
    assert load(published)[1] == other


def test_weights_that_are_not_finite_are_never_published(published: Path) -> None:
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    state = DESCRIBED.build().state_dict()
    next(tensor for tensor in state.values() if tensor.is_floating_point()).view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        publish(published, state, DESCRIBED)
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_disk_that_loses_bytes_is_noticed(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    move = Path.replace

    def lossy(self: Path, target: Path) -> Path:
        if target.name == name:
            self.write_bytes(self.read_bytes()[:-3])
        return move(self, target)

    monkeypatch.setattr(Path, "replace", lossy)
    model, description = load(published)
    with pytest.raises(ModelError):
        publish(tmp_path / "lossy", model.state_dict(), description)


def test_published_weights_that_are_not_finite_are_rejected(published: Path) -> None:
    state = safetensors.torch.load_file(published / WEIGHTS)
    next(tensor for tensor in state.values() if tensor.is_floating_point()).view(-1)[0] = float("nan")
    data = safetensors.torch.save(state)
    (published / WEIGHTS).write_bytes(data)
    change(published, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match="holds weights that are not finite"):
        load(published)


def test_a_crop_larger_than_any_image_is_accepted(tmp_path: Path) -> None:
    described = replace(DESCRIBED, preparation=Preparation((64, 48), (5000, 5000)))
    publish(tmp_path / "wide", described.build().state_dict(), described)
    assert load(tmp_path / "wide")[1] == described


def test_an_archive_of_the_folder_itself_is_read_and_a_huge_member_is_not(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "dot.tar.gz", "w:gz") as archive:
        archive.add(published, ".")
    assert load(tmp_path / "dot.tar.gz")[1] == DESCRIBED
    monkeypatch.setattr(model_folder, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="at most 1000"):
        load(tmp_path / "dot.tar.gz")


def test_a_flipped_bit_or_a_truncated_file_is_rejected(published: Path) -> None:
    data = (published / WEIGHTS).read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
        (published / WEIGHTS).write_bytes(damaged)
        with pytest.raises(ModelError, match="sha256 differs"):
            load(published)


@pytest.mark.parametrize("missing", [WEIGHTS, DESCRIPTION])
def test_an_incomplete_model_is_rejected(published: Path, missing: str) -> None:
    (published / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing} is missing"):
        load(published)


def change(published: Path, **entries: object) -> None:
    path = published / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"format": 99}, "format 99"),
        ({"scheme": {}}, "not one of this job"),
        ({"preparation": {"size": [1, 2], "colour": 3}}, "not one of this job"),
        ({"architecture": 5}, "cannot be built"),
        ({"preparation": {"size": ["32", "24"], "crop": None, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "is not that of"),
        ({"preparation": {"size": [32, 24], "crop": None, "mean": [0, 0], "std": [1, 1, 1]}}, "is not three numbers"),
        (
            {"preparation": {"size": [32, 24], "crop": None, "mean": [0, 0, 0], "std": [1, 1, 1], "fit": "squeeze"}},
            "fit 'squeeze' is not one of stretch, crop, pad",
        ),
        ({"architecture": "resnet18", "head": "joint"}, "another architecture|does not fit|architecture"),
        ({"scheme": LabelScheme("folders", ("a", "b", "c")).to_dict(), "head": "joint"}, "another"),
    ],
)
def test_a_wrong_description_is_rejected(published: Path, entries: dict[str, object], sentence: str) -> None:
    change(published, **entries)
    with pytest.raises(ModelError, match=sentence):
        load(published)


def test_the_description_names_its_format_and_the_version_that_wrote_it(published: Path) -> None:
    record = json.loads((published / DESCRIPTION).read_text())
    assert (record["format"], record["version"]) == (FORMAT, version())


def test_a_newer_format_is_rejected_with_the_version_that_reads_it(published: Path) -> None:
    change(published, format=FORMAT + 1)
    with pytest.raises(
        ModelError, match=rf"format {FORMAT + 1}, this version \({re.escape(version())}\) reads formats up to"
    ):
        load(published)


def test_settings_in_format_1_come_back_under_the_current_names(published: Path) -> None:
    change(published, format=1, settings={"accumulate": 4, "statistics": "seed", "lr": 0.5})
    settings = load(published)[1].settings
    assert (settings["parts"], settings["statistics"], settings["lr"]) == (4, "original", 0.5)
    assert settings["clip_norm"] == TrainConfig().clip_norm, "an option that is not stored has its default"
    change(published, format=1, settings=["lr", 1])
    with pytest.raises(ModelError, match="not one of this job"):
        load(published)


def test_a_description_that_is_not_json_is_rejected(published: Path) -> None:
    (published / DESCRIPTION).write_text("[]")
    with pytest.raises(ModelError, match="belongs to another"):
        load(published)
    for text in ("{", "[" * 100_000):
        (published / DESCRIPTION).write_text(text)
        with pytest.raises(ModelError, match="not JSON"):
            load(published)


def test_nothing_of_an_archive_reaches_the_disk(published: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.tar.gz"
    with tarfile.open(hostile, "w:gz") as archive:
        for name in ("../escaped", f"{tmp_path}/escaped-absolute"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo(WEIGHTS)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="lacks"):
        load(hostile)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_duplicate_member_and_a_broken_archive_are_rejected(published: Path, tmp_path: Path) -> None:
    doubled = tmp_path / "doubled.tar.gz"
    with tarfile.open(doubled, "w:gz") as archive:
        for _ in range(2):
            archive.add(published / DESCRIPTION, DESCRIPTION)
    with pytest.raises(ModelError, match="doubled"):
        load(doubled)
    broken = archive_of(published, tmp_path / "broken.tar.gz")
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ModelError, match="archive"):
        load(broken)
    with tarfile.open(tmp_path / "header.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member := tarfile.TarInfo(DESCRIPTION))
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "much"}
        archive.addfile(member)
    with pytest.raises(ModelError, match="cannot be read as an archive"):
        load(tmp_path / "header.tar.gz")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_old_best_pth_of_the_original_loads(tmp_path: Path, prefix: str) -> None:
    expected = BaseModel(18)
    (tmp_path / "exp").mkdir()
    torch.save({prefix + name: value for name, value in expected.state_dict().items()}, tmp_path / "exp" / LEGACY)
    model, description = load(tmp_path)
    assert description.architecture == "BaseModel"
    assert torch.equal(model.state_dict()["conv1.weight"], expected.state_dict()["conv1.weight"])


def test_a_pickled_object_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"fc.weight": Trap()}, tmp_path / LEGACY)
    with pytest.raises(ModelError, match="not a plain state dict"):
        load(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_no_state_dict_is_rejected(tmp_path: Path) -> None:
    for damaged in (b"junk", b""):
        (tmp_path / LEGACY).write_bytes(damaged)
        with pytest.raises(ModelError, match="not a plain state dict"):
            load(tmp_path)
    torch.save(BaseModel(3).state_dict(), tmp_path / LEGACY)
    with pytest.raises(ModelError, match=rf"3 outputs, expected 18; train again or give another model: .*{LEGACY}$"):
        load(tmp_path)
    for content in ([1, 2], {0: torch.zeros(3)}, {"fc.weight": torch.zeros(3, device="meta")}):
        torch.save(content, tmp_path / LEGACY)
        with pytest.raises(ModelError, match="not a plain state dict"):
            load(tmp_path)


def test_the_error_of_a_folder_without_a_model_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected model\.safetensors"):
        load(tmp_path)
    with pytest.raises(ModelError, match="no model"):
        load(tmp_path / "missing")


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_no_regular_file_or_too_large_is_one_sentence(published: Path, name: str, kind: str) -> None:
    make_strange(published / name, kind)
    with pytest.raises(ModelError, match=f"{name} is missing|bytes are more than"):
        load(published)


def test_an_archive_of_zeros_is_not_unpacked(published: Path, tmp_path: Path) -> None:
    member = tarfile.TarInfo(WEIGHTS)
    member.size = 3 << 40
    (tmp_path / "zeros.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(ModelError, match=r"cannot be read as an archive .*unpacks to"):
        load(tmp_path / "zeros.tar")


def test_weights_that_do_not_fit_into_memory_are_not_read(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(published, published.parent / ARCHIVE)
    monkeypatch.setattr(model_folder, "free_memory_bytes", lambda: 2000)
    for source in (published, archive):
        with pytest.raises(ModelError, match="more than the 1000 allowed"):
            load(source)


def test_a_deep_description_is_one_sentence(published: Path) -> None:
    (published / DESCRIPTION).write_text('{"a":' * 200 + "1" + "}" * 200)
    with pytest.raises(ModelError, match="nested more than 64 deep"):
        load(published)
