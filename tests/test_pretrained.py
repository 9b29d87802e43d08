"""Weights load where they fit, differences are reported, and nothing in a file is ever run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from labels import MASKED_FACES
from model import BaseModel, TinyModel, create_model
from pretrained import load_state
from runtime.errors import ModelError
from support.pretrained_weights import THREE, State, fits, imagenet, load_pretrained, resnet18

# ---- all of them ----


@pytest.mark.parametrize("name", ["BaseModel", "TinyModel", "mnasnet0_5", "densenet121"])
def test_a_plain_state_dict_of_the_same_network_loads(name: str) -> None:
    """MNASNet needs a version that a plain dict, as from safetensors, does not have."""
    model, other = (create_model(name, MASKED_FACES, size=(64, 48)) for _ in range(2))
    state = dict(other.state_dict())
    load_state(model, {f"module.{key}": tensor for key, tensor in state.items()})
    assert fits(model, state, but="none")


def test_weights_of_another_architecture_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"of another architecture \(\d+ tensors differ, such as blocks\.0\."):
        load_state(BaseModel(18), TinyModel(18).state_dict())
    with pytest.raises(ModelError, match="of another architecture"):
        load_state(BaseModel(18), {})


def test_weights_of_a_factored_head_are_another_architecture_than_those_of_a_joint_one() -> None:
    factored = create_model("BaseModel", MASKED_FACES, head="factored").state_dict()
    with pytest.raises(ModelError, match="of another architecture"):
        load_state(BaseModel(18), factored)


def test_weights_for_another_number_of_classes_are_rejected() -> None:
    model = BaseModel(18)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match="for another number of classes: 3 outputs, expected 18"):
        load_state(model, BaseModel(3).state_dict())
    assert fits(model, before, but="none"), "nothing is half loaded"


def test_weights_of_another_width_or_image_size_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"of another width or image size: stem.0.weight is \(16, 3, 3, 3\), expected"):
        load_state(TinyModel(18), TinyModel(18, width=16).state_dict())
    small, large = (create_model("vit_b_32", THREE, size=(side, side)) for side in (32, 64))
    with pytest.raises(
        ModelError, match=r"image size: backbone.encoder.pos_embedding is \(1, 5, 768\), expected \(1, 2"
    ):
        load_state(small, large.state_dict())


# ---- those that fit ----


def save_pth(state: State, path: Path) -> None:
    torch.save(state, path)


def save_nested(state: State, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)


def save_nested_model(state: State, path: Path) -> None:
    torch.save({"model": state, "optimizer": {"lr": 0.1}}, path)


def save_safetensors(state: State, path: Path) -> None:
    safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)


@pytest.mark.parametrize(
    ("ending", "save"),
    [
        (".pth", save_pth),
        (".pt", save_nested),
        (".pth", save_nested_model),
        (".safetensors", save_safetensors),
    ],
    ids=["plain", "state_dict-module", "model", "safetensors"],
)
def test_published_weights_load_except_for_the_head(
    tmp_path: Path, ending: str, save: Callable[[State, Path], None]
) -> None:
    state, path, model = imagenet(), tmp_path / f"weights{ending}", resnet18()
    save(state, path)
    report = load_pretrained(model, path, "resnet18")
    assert report == f"120 of 122 tensors from {path}; zero: backbone.fc.weight, backbone.fc.bias"
    assert not any(tensor.any() for name, tensor in model.state_dict().items() if ".fc." in name)
    assert fits(model, state, "backbone.")


def test_weights_go_through_a_factored_head(tmp_path: Path) -> None:
    state = imagenet()
    torch.save(state, tmp_path / "any.pth")
    model = resnet18(head="factored")
    load_pretrained(model, tmp_path, "resnet18")
    assert fits(model, state, "network.backbone.")


def test_a_model_of_this_job_is_a_start_for_another_task(tmp_path: Path) -> None:
    ours = resnet18(head="factored")
    safetensors.torch.save_file(ours.state_dict(), tmp_path / "model.safetensors")
    model = resnet18(THREE)
    assert load_pretrained(model, tmp_path, "resnet18").startswith("120 of 122")
    same = resnet18(head="factored")
    assert load_pretrained(same, tmp_path, "resnet18") == f"122 of 122 tensors from {tmp_path}"
    assert fits(same, ours.state_dict(), but="none")


def test_half_precision_weights_are_loaded_into_float32(tmp_path: Path) -> None:
    state = {key: tensor.half() for key, tensor in BaseModel(18).state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    model = BaseModel(18)
    load_pretrained(model, tmp_path, "BaseModel")
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, state["conv1.weight"].float())


def test_missing_and_unused_tensors_are_reported(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in imagenet().items() if not key.startswith(("layer4", "fc"))}
    torch.save(state | {"aux.weight": torch.zeros(1)}, tmp_path / "body.pth")
    report = load_pretrained(resnet18(), tmp_path / "body.pth", "resnet18")
    assert report.startswith(f"{len(state)} of 122 tensors")
    assert "; random: backbone.layer4.0.conv1.weight, " in report
    assert report.endswith(" ...; not used: 1 of the file")


def test_old_names_of_densenet_layers_load(tmp_path: Path) -> None:
    state = imagenet("densenet121")
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.").replace(".conv1.", ".conv.1."): tensor
        for key, tensor in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet121.pth")
    model = create_model("densenet121", MASKED_FACES, size=(64, 48))
    load_pretrained(model, tmp_path, "densenet121")
    assert fits(model, state, "backbone.", but="classifier.")


def test_position_embeddings_of_a_vision_transformer_are_interpolated(tmp_path: Path) -> None:
    state = imagenet("vit_b_32")  # 7 x 7 patches
    state["encoder.pos_embedding"] = torch.arange(50.0).view(1, 50, 1).expand(1, 50, 768).contiguous()
    torch.save(state, tmp_path / "vit.pth")
    model = create_model("vit_b_32", THREE, size=(96, 96))
    assert "zero: backbone.heads.head.weight, backbone.heads.head.bias" in load_pretrained(model, tmp_path, "vit_b_32")
    grid = model.state_dict()["backbone.encoder.pos_embedding"][0, :, 0]  # (1 + 3 x 3,)
    expected = torch.tensor([0.0, 1, 4, 7, 22, 25, 28, 43, 46, 49])  # corners, middles of the sides, centre
    torch.testing.assert_close(grid, expected)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_do_not_count(tmp_path: Path, wrapper: str) -> None:
    model, other = BaseModel(18), BaseModel(18)
    state = {f"{wrapper}{name}": tensor for name, tensor in other.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.pth")
    assert load_pretrained(model, tmp_path, "BaseModel").startswith("8 of 8")
    assert fits(model, other.state_dict(), but="none")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ("resnet50", r"layer1\.0\.conv1\.weight is \(64, 64, 1, 1\), expected \(64, 64, 3, 3\)"),
        ("squeezenet1_1", r"conv1\.weight is missing, the first of other names is features\.0\.weight"),
        ("mobilenet_v2", r"conv1\.weight is missing, the first of other names is features\.0\.0\.weight"),
    ],
)
def test_weights_of_another_model_are_rejected_with_a_difference(tmp_path: Path, other: str, difference: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(imagenet(other), path)
    model = resnet18()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match=rf"not of model 'resnet18': \d+ of its 122 tensors fit, {difference}; give"):
        load_pretrained(model, path, "resnet18")
    assert fits(model, before, but="none")


def test_a_file_with_too_few_of_the_weights_is_rejected(tmp_path: Path) -> None:
    state = BaseModel(18).state_dict()
    torch.save({"conv1.weight": state["conv1.weight"]}, tmp_path / "one.pth")
    with pytest.raises(ModelError, match=r"'BaseModel': 1 of its 8 tensors fit, conv1\.bias is missing; give those"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    torch.save({}, tmp_path / "one.pth")
    with pytest.raises(ModelError, match=r"0 of its 8 tensors fit, conv1\.weight is missing; give those"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")


# ---- where they lie ----


def test_a_folder_holds_one_file_of_weights_or_one_of_the_right_name(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("weights")
    with pytest.raises(ModelError, match=r"expected one file of weights .* or BaseModel\.\*, found none: "):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    torch.save(BaseModel(18).state_dict(), tmp_path / "a.pth")
    assert load_pretrained(BaseModel(18), tmp_path, "BaseModel").startswith("8 of 8")
    torch.save(TinyModel(18).state_dict(), tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"found a\.pth, b\.pth: "):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    (tmp_path / "a.pth").rename(tmp_path / "BaseModel.pth")
    assert load_pretrained(BaseModel(18), tmp_path, "BaseModel").startswith("8 of 8")
    torch.save(BaseModel(18).state_dict(), tmp_path / "BaseModel.pt")
    with pytest.raises(ModelError, match=r"found BaseModel\.pt, BaseModel\.pth: "):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")


def test_hidden_files_and_folders_are_not_weights(tmp_path: Path) -> None:
    """macOS copies `._NAME` along, and Lightning makes folders called NAME.ckpt."""
    torch.save(BaseModel(18).state_dict(), tmp_path / "BEST.PTH")
    (tmp_path / "._BEST.PTH").write_bytes(b"\0\5\x16\7")
    (tmp_path / "last.pt").mkdir()
    assert load_pretrained(BaseModel(18), tmp_path, "BaseModel").startswith("8 of 8")


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no such file or folder, expected weights \(.pth, .pt, .safetensors\): .*/no.pth"
    ):
        load_pretrained(BaseModel(18), tmp_path / "no.pth", "BaseModel")


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04" + bytes(500)], ids=["empty", "text", "torn"])
def test_a_damaged_file_is_rejected(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"^cannot be read as weights, expected dense tensors by name .*{name}$"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")


def test_a_file_without_read_permission_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(BaseModel(18).state_dict(), tmp_path / "weights.pth")

    def forbidden(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", forbidden)  # root may read everything, so chmod would prove nothing
    with pytest.raises(ModelError, match=r"^cannot be read as weights \(Permission denied\), expected"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")


def test_nothing_that_is_pickled_is_ever_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"fc.weight": "text"},
        torch.zeros(3),
        {0: torch.zeros(3)},
        {"fc.weight": torch.zeros(3, 3).to_sparse()},
        {"fc.weight": torch.zeros(3, device="meta")},
    ],
    ids=["list", "text", "tensor", "number", "sparse", "meta"],
)
def test_a_file_without_weights_is_rejected(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"^not weights, expected dense tensors by name"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")


@pytest.mark.parametrize("type_", [torch.int8, torch.complex64])
def test_weights_of_another_kind_of_number_are_rejected(tmp_path: Path, type_: torch.dtype) -> None:
    torch.save({key: tensor.to(type_) for key, tensor in BaseModel(18).state_dict().items()}, tmp_path / "other.pth")
    sentence = rf"^the weights 'conv1.weight' are of type {type_}, expected torch.float32; .*: {tmp_path}$"
    with pytest.raises(ModelError, match=sentence):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    with pytest.raises(ModelError, match=r"expected torch\.float32"):
        load_state(BaseModel(18), torch.load(tmp_path / "other.pth"))


def test_weights_that_are_not_finite_are_rejected(tmp_path: Path) -> None:
    state = BaseModel(18).state_dict()
    state["conv2.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "diverged.pth")
    with pytest.raises(ModelError, match=rf"^the weights 'conv2.weight' are not finite, .*: {tmp_path}$"):
        load_pretrained(BaseModel(18), tmp_path, "BaseModel")
    with pytest.raises(ModelError, match=r"'conv2\.weight' are not finite"):
        load_state(BaseModel(18), state)
