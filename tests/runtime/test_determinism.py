"""Kernels with the same bits in every run are chosen in one place, and networks with attention keep fast ones."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.backends import cuda
from torchvision.models import VisionTransformer

from labels import MASKED_FACES
from model import create_model
from runtime.determinism import use_deterministic_attention, use_deterministic_kernels

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def attention_kernels() -> list[str]:
    """Return the kernels of attention that are switched on."""
    switches: dict[str, Callable[[], bool]] = {
        "flash": cuda.flash_sdp_enabled,
        "efficient": cuda.mem_efficient_sdp_enabled,
    }
    switches |= {"cudnn": cuda.cudnn_sdp_enabled, "math": cuda.math_sdp_enabled}
    return [name for name, is_enabled in switches.items() if is_enabled()]


def network(name: str) -> nn.Module:
    """Create a network without weights, which takes no time."""
    with torch.device("meta"):
        return create_model(name, MASKED_FACES, size=(224, 224) if name == "maxvit_t" else (64, 64))


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32"])
def test_a_network_with_attention_gets_fast_kernels_in_torchs_strict_mode(name: str) -> None:
    use_deterministic_kernels(True)
    assert attention_kernels() == ["math"]
    use_deterministic_attention(network(name), CUDA)
    assert attention_kernels() == ["flash", "efficient", "math"]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["TinyModel", "alexnet", "vgg11", "swin_v2_t", "maxvit_t"])
def test_other_networks_keep_the_mode_that_they_are_in(name: str) -> None:
    use_deterministic_kernels(True)
    use_deterministic_attention(network(name), CUDA)
    assert attention_kernels() == ["math"]
    assert not torch.are_deterministic_algorithms_enabled()


def test_on_a_cpu_attention_keeps_its_bits() -> None:
    use_deterministic_kernels(True)
    use_deterministic_attention(network("vit_b_32"), CPU)
    assert attention_kernels() == ["math"]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_strict_mode_of_one_network_does_not_stay_for_the_next(deterministic: bool) -> None:
    use_deterministic_kernels(True)
    use_deterministic_attention(network("vit_b_32"), CUDA)
    use_deterministic_kernels(deterministic)
    assert not torch.are_deterministic_algorithms_enabled()
    assert attention_kernels() == (["math"] if deterministic else ["flash", "efficient", "cudnn", "math"])


def test_without_gradients_attention_is_fast_and_convolutions_are_deterministic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    use_deterministic_kernels(True, gradients=False)
    assert attention_kernels() == ["flash", "efficient", "math"]
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_strict_mode_accepts_steps_of_a_network_with_attention() -> None:
    def two_losses() -> list[float]:
        torch.manual_seed(1)
        model = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=18)
        nn.init.normal_(model.heads.head.weight)
        use_deterministic_kernels(True)
        use_deterministic_attention(model, CUDA)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        images, labels = torch.randn(2, 3, 32, 32), torch.tensor([3, 5])
        losses = []
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    first = two_losses()
    assert torch.are_deterministic_algorithms_enabled()
    assert first == two_losses()
    assert first[0] != first[1]
