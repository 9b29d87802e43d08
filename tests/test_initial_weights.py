"""Weights to start from are found wherever they are, checked, and known with their mean and std."""

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from data.images import IMAGENET_MEAN, IMAGENET_STD, Preparation
from description import Description
from initial_weights import IMAGENET, InitialWeights
from labels import MASKED_FACES, LabelScheme
from model import TinyModel, create_model
from model_files import publish, publish_ensemble
from runtime.errors import ModelError
from support.archives import archive_of
from support.pretrained_weights import THREE, fits, imagenet, resnet18
from weights_cache import Notes, Statistics, notes_path

VIT = "timm/test_vit"
HALF = (0.5, 0.5, 0.5)


def read(model: str, source: Path) -> InitialWeights:
    found = InitialWeights.read(model, str(source), None)
    assert found
    return found


def publish_model(folder: Path, scheme: LabelScheme = MASKED_FACES, head: str = "factored") -> Path:
    """Publish a TinyModel with a mean and std of its own."""
    model = create_model("TinyModel", scheme, head=head, size=(32, 24))
    preparation = Preparation((32, 24), None, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    publish(folder, model.state_dict(), Description("TinyModel", head, scheme, preparation))
    return folder


# ---- where they are ----


def test_nothing_is_read_unless_it_is_given(tmp_path: Path) -> None:
    assert InitialWeights.read("TinyModel", "auto", None) is None
    assert InitialWeights.read("TinyModel", "none", tmp_path / "missing") is None


def test_a_file_counts_before_the_channel_and_the_channel_without_a_file(tmp_path: Path) -> None:
    for name in ("channel", "file"):
        (tmp_path / name).mkdir()
        torch.save(TinyModel(3).state_dict(), tmp_path / name / "weights.pth")
    for pretrained, expected in (("auto", "channel"), (str(tmp_path / "file/weights.pth"), "file/weights.pth")):
        found = InitialWeights.read("TinyModel", pretrained, tmp_path / "channel")
        assert found
        assert found.where == str(tmp_path / expected)


@pytest.mark.parametrize("kind", ["folder", "archive", "folder of an archive"])
def test_a_model_of_this_job_is_a_start_for_other_classes(kind: str, tmp_path: Path) -> None:
    source = publish_model(tmp_path / "model")
    if kind != "folder":
        (tmp_path / "channel").mkdir()
        archive = archive_of(source, tmp_path / "channel/model.tar.gz")
        source = archive if kind == "archive" else archive.parent
    found = read("TinyModel", source)
    assert found.statistics == Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert found.sha256 == json.loads((tmp_path / "model/model.json").read_text())["sha256"]
    model = create_model("TinyModel", THREE, size=(32, 24))
    report = found.copy_into(model)
    assert "; zero: fc.weight, fc.bias" in report
    state = safetensors.torch.load_file(tmp_path / "model/model.safetensors")
    own = model.state_dict()
    assert all(torch.equal(own[name], state[f"network.{name}"]) for name in own if not name.startswith("fc."))


def test_a_model_of_another_architecture_names_both(tmp_path: Path) -> None:
    folder = publish_model(tmp_path / "model")
    sentence = "are of a model 'TinyModel', expected 'resnet18'; give --model TinyModel, or other weights: .*/model$"
    with pytest.raises(ModelError, match=sentence):
        read("resnet18", folder)


@pytest.mark.parametrize("model", ["TinyModel", "Ensemble"])
def test_an_ensemble_names_what_can_be_started_from(model: str, tmp_path: Path) -> None:
    members = [publish_model(tmp_path / f"fold-{number}") for number in (1, 2, 3)]
    publish_ensemble(tmp_path / "model", members)
    sentence = "^an ensemble of 3 models cannot be started from; give one of them, such as .*fold-1/model .*: .*/model$"
    with pytest.raises(ModelError, match=sentence):
        read(model, tmp_path / "model")


def test_a_damaged_model_is_an_error(tmp_path: Path) -> None:
    folder = publish_model(tmp_path / "model")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="sha256 differs"):
        read("TinyModel", folder)


# ---- mean and std ----


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", IMAGENET),
        ("MyModel", IMAGENET),
        ("inception_v3", Statistics(HALF, HALF)),
        ("timm/vit_tiny_patch16_224", Statistics(HALF, HALF)),
        ("timm/convnext_tiny.dinov3_lvd1689m", IMAGENET),
        ("TinyModel", None),
    ],
)
def test_the_mean_and_std_of_a_file_are_those_of_the_published_weights(
    model: str, expected: Statistics | None, tmp_path: Path
) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    assert read(model, tmp_path).statistics == expected


def test_inception_of_torchvision_converts_only_with_its_own_weights() -> None:
    """That is why its mean and std are 0.5 here: it is created without weights."""
    model = create_model("inception_v3", THREE, size=(96, 96))
    assert not vars(model.get_submodule("backbone"))["transform_input"]


def test_notes_beside_a_file_tell_its_mean_and_std_and_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(imagenet(), path)
    known = read("resnet18", path)
    own = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    notes_path(path).write_text(Notes("resnet18", "https://example.org", "MIT", known.sha256, own).to_json())
    assert read("resnet18", path).statistics == own
    notes_path(path).write_text(Notes("resnet18", "https://example.org", "MIT", "0" * 64, own).to_json())
    with pytest.raises(ModelError, match=r"others than the notes beside them say \(sha256 differs\); fetch them again"):
        read("resnet18", path)


# ---- weights of timm ----


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("head", ["joint", "factored"])
def test_published_weights_of_timm_load_except_for_the_head(tmp_path: Path, ending: str, head: str) -> None:
    state = timm.create_model("resnet10t").state_dict()
    path = tmp_path / f"weights{ending}"
    safetensors.torch.save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    model = create_model("timm/resnet10t", MASKED_FACES, head=head, size=(32, 32))
    prefix = "network.backbone." if head == "factored" else "backbone."
    report = read("timm/resnet10t", tmp_path).copy_into(model)
    assert (
        report == f"{len(state) - 2} of {len(state)} tensors from {tmp_path}; zero: {prefix}fc.weight, {prefix}fc.bias"
    )
    assert fits(model, state, prefix)


def test_position_embeddings_of_timm_are_interpolated_to_the_size_of_the_images(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()  # 160 x 160 pixels, 10 x 10 patches
    ramp = torch.arange(10.0).repeat(10)
    state["pos_embed"][0, 1:] = ramp[:, None]
    torch.save(state, tmp_path / "vit.pth")
    model = create_model(VIT, THREE, size=(160, 320))
    assert "; zero: backbone.head.weight, backbone.head.bias" in read(VIT, tmp_path).copy_into(model)
    grid = model.state_dict()["backbone.pos_embed"][0, 1:, 0].view(10, 20)
    expected = (torch.arange(20.0) + 0.5) / 2 - 0.5  # the same ramp at twice as many places
    torch.testing.assert_close(grid[:, 3:-3], expected[3:-3].expand(10, -1), atol=0.05, rtol=0)


def _old_convnext_name(name: str) -> str:
    """Return the name that a tensor of timm's ConvNeXt had in its authors' code."""
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    name = name.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")
    return name.replace("head.norm.", "norm.").replace("head.fc.", "head.")


def test_old_names_of_a_family_of_timm_are_translated(tmp_path: Path) -> None:
    """ConvNeXt was published with names of its own; timm's function for the family knows them."""
    state = timm.create_model("convnext_atto").state_dict()
    old = {_old_convnext_name(name): tensor for name, tensor in state.items()}
    old = {
        name: tensor.flatten(1) if ".pwconv" in name and tensor.ndim == 4 else tensor for name, tensor in old.items()
    }
    torch.save({"model": old}, tmp_path / "convnext.pth")
    model = create_model("timm/convnext_atto", THREE, size=(64, 64))
    assert f"{len(state) - 2} of {len(state)} tensors" in read("timm/convnext_atto", tmp_path).copy_into(model)
    assert fits(model, state, "backbone.", "head.fc.")


def test_weights_of_another_network_of_timm_are_rejected(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    for name in ("timm/resnet10t", "timm/test_efficientnet", "timm/swin_tiny_patch4_window7_224"):
        model = create_model(name, THREE, size=(160, 160))
        with pytest.raises(ModelError, match=f"^the weights are not of model '{name}': "):
            read(name, tmp_path).copy_into(model)


def test_a_layer_of_the_network_may_be_called_like_a_wrapper(tmp_path: Path) -> None:
    """VOLO has layers called `network`."""
    name = "timm/volo_d1_224"
    state = timm.create_model("volo_d1_224").state_dict()
    torch.save(state, tmp_path / "volo.pth")
    report = read(name, tmp_path).copy_into(create_model(name, THREE, head="joint", size=(224, 224)))
    assert report.startswith(f"{len(state) - 4} of {len(state)} tensors"), report


def test_the_mean_and_std_of_torchvision_are_those_of_imagenet() -> None:
    assert Statistics(IMAGENET_MEAN, IMAGENET_STD) == IMAGENET
    assert resnet18().training
