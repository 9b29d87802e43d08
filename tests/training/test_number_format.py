"""Training in bf16 on a CPU is for networks whose maps are no smaller than their strides: all gradients are written."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from labels import MASKED_FACES
from model import create_model
from runtime.devices import select_dtype
from runtime.errors import ConfigError
from support.trainers import CPU, PLAIN, Faces, first_batch, trainer_of
from training.inputs import read_data
from training.number_format import has_too_large_strides, select_training_dtype

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)


def network(name: str, size: tuple[int, int]) -> nn.Module:
    return create_model(name, MASKED_FACES, size=size)


@pytest.mark.parametrize(
    ("precision", "size", "model"),
    [
        *(("auto", (16, 16), "TinyModel"), ("auto", (96, 16), "TinyModel"), ("auto", (16, 16), "resnet18")),
        *(("bf16", (17, 17), "TinyModel"), ("bf16", (96, 17), "TinyModel"), ("bf16", (17, 17), "resnet18")),
    ],
)
def test_small_images_give_the_same_bits_whatever_was_in_the_memory(
    faces: Faces, precision: str, size: tuple[int, int], model: str
) -> None:
    data, states = read_data(faces(6), replace(PLAIN, resize=size), CPU), []
    for content in (float("nan"), 1e30):
        trainer = trainer_of(data, precision=precision, resize=size, model=model)
        for module in trainer.model.modules():
            if isinstance(module, nn.BatchNorm2d):  # TinyModel's blocks begin as shortcuts, without a gradient
                nn.init.ones_(module.weight)
        for step in range(2):
            fill_free_memory(content)
            trainer.step(first_batch(data), epoch=0, steps_done=step)
        states.append(list(trainer.model.state_dict().values()))
    assert all(tensor.isfinite().all() for tensor in states[0])
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def fill_free_memory(content: float) -> None:
    """Write numbers into memory that later tensors of up to 4 MB get, by allocating and freeing it."""
    filled = [torch.full((size,), content) for size in [2**power for power in range(8, 21)] * 8]
    assert filled


# The largest size at which gradients were found to be unwritten, and the next one.
@pytest.mark.parametrize(
    ("name", "refused", "accepted"),
    [
        *(("TinyModel", (16, 16), (17, 17)), ("TinyModel", (96, 16), (96, 17)), ("TinyModel", (16, 96), (17, 96))),
        *(("resnet18", (16, 16), (17, 17)), ("mobilenet_v3_small", (16, 16), (17, 17))),
        *(("timm/legacy_seresnext26_32x4d", (17, 17), (24, 24)), ("timm/selecsls60b", (32, 32), (33, 33))),
    ],
)
def test_bf16_is_for_networks_whose_maps_are_no_smaller_than_their_strides(
    name: str, refused: tuple[int, int], accepted: tuple[int, int]
) -> None:
    small, large = network(name, refused), network(name, accepted)
    assert select_training_dtype("auto", CPU, small, name, refused) is None
    assert select_training_dtype("fp32", CPU, small, name, refused) is None
    shown = f"{refused[0]} x {refused[1]} pixels for model '{name}'"
    with pytest.raises(ConfigError, match=f"^--precision bf16 on a CPU needs images of more than {shown}.*; pass auto"):
        select_training_dtype("bf16", CPU, small, name, refused)
    for precision in ("auto", "bf16"):
        found = select_training_dtype(precision, CPU, large, name, accepted)
        assert found is select_dtype(precision, CPU) is torch.bfloat16


@pytest.mark.parametrize("name", ["BaseModel", "timm/tf_efficientnet_lite0"])
def test_networks_without_padding_or_that_pad_themselves_have_bf16_at_any_size(name: str) -> None:
    size = (16, 16) if name == "BaseModel" else (8, 8)
    assert not has_too_large_strides(network(name, size), size)


def test_on_a_gpu_the_size_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    for precision in ("auto", "bf16"):
        found = select_training_dtype(precision, CUDA, network("TinyModel", (8, 8)), "TinyModel", (8, 8))
        assert found is torch.bfloat16


def test_looking_at_the_strides_changes_nothing() -> None:
    looked_at = network("resnet18", (32, 32))
    before = {name: tensor.clone() for name, tensor in looked_at.state_dict().items()}
    drawn = torch.get_rng_state()
    has_too_large_strides(looked_at, (32, 32))
    assert looked_at.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in looked_at.state_dict().items())
