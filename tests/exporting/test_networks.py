"""Ours, and one network of each family of torchvision and of 15 families of timm, are exported.

Weights are random, but batch norm has seen images and the probabilities of the golden images differ, so that a
difference between torch and onnxruntime would show.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights, list_models

from data.images import Pixels, Preparation, prepare
from description import Description
from engines.onnx_metadata import metadata
from engines.onnxruntime_engine import OnnxRuntimeEngine
from exporting.golden_images import golden_images
from exporting.network import ExportedNetwork
from exporting.onnx_file import MAX_BYTES, to_onnx
from exporting.parity import check_parity, largest_differences
from labels import MASKED_FACES
from model import create_model
from predictor import Predictor
from runtime.errors import ModelError

OURS = {"BaseModel": 64, "TinyModel": 64}
TORCHVISION = {  # one of each family, and a side of images that it takes
    **dict.fromkeys(
        (
            *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2"),
            *("mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d"),
            *("shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "wide_resnet50_2"),
        ),
        64,
    ),
    "inception_v3": 96,
    "vit_b_32": 64,
    "maxvit_t": 224,
}
TIMM = {
    "timm/resnet10t": 64,
    "timm/efficientnet_lite0": 64,
    "timm/mobilenetv3_small_050": 64,
    "timm/mobilenetv4_conv_small": 64,
    "timm/regnetx_002": 64,
    "timm/convnext_atto": 64,
    "timm/vit_tiny_patch16_224": 224,
    "timm/deit_tiny_patch16_224": 224,
    "timm/swin_tiny_patch4_window7_224": 224,
    "timm/ghostnet_050": 64,
    "timm/repvgg_a0": 64,
    "timm/fastvit_t8": 64,
    "timm/edgenext_xx_small": 64,
    "timm/dla34": 64,
    "timm/resmlp_12_224": 224,
}
TOO_LARGE = ["vit_h_14", "regnet_y_128gf"]  # for one ONNX file
SIDES = {**OURS, **TORCHVISION, **TIMM}
QUICK = ["BaseModel", "resnet18"]
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.networks) for name in SIDES]


class Spread(nn.Module):
    """A network whose logits differ between images: those of a random network hardly do."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.network = network
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = None  # the mean of all batches, here of one
            if isinstance(part, nn.Linear) and not part.weight.any():
                nn.init.normal_(part.weight, std=0.02)  # some networks begin with a head of zeros
        with torch.no_grad():
            network.train()(images)
            logits = network.eval()(images)
        self.register_buffer("shift", logits.mean(0))
        self.register_buffer("scale", 0.1 / (logits.std(0) + 1e-9))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = (self.network(images) - self.shift) * self.scale
        return logits


def exported_differences(name: str, side: int, head: str = "joint") -> dict[int, float]:
    """Return the largest difference between onnxruntime and torch for each size of a batch."""
    torch.manual_seed(0)
    description = Description(name, head, MASKED_FACES, Preparation((side, side)))
    images: Pixels = np.stack([prepare(image.data, description.preparation) for image in golden_images((side, side))])
    model = create_model(name, MASKED_FACES, head=head, size=(side, side))
    network = ExportedNetwork(model, description)
    seen = network.normalise(torch.from_numpy(images)).permute(0, 3, 1, 2)
    network.model = Spread(model, seen).eval()
    predictor = Predictor(network.model, description.preparation, torch.device("cpu"), None)
    identity = metadata("0", b"", MASKED_FACES.classes, "none")
    engine = OnnxRuntimeEngine(to_onnx(network, (side, side), identity), identity, 1, Path("model.onnx"))
    probabilities = predictor.probabilities(images)
    assert probabilities.std(0).max() > 0.002, "the images have different probabilities"
    return largest_differences(predictor.probabilities, engine.probabilities, images)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_the_same_in_onnxruntime(name: str) -> None:
    check_parity(exported_differences(name, SIDES[name]))


def test_a_factored_head_gives_the_same_in_onnxruntime() -> None:
    check_parity(exported_differences("TinyModel", 64, "factored"))


def test_of_each_family_of_torchvision_a_network_is_exported() -> None:
    families = {get_model_builder(name).__module__ for name in list_models(module=torchvision.models)}
    assert {get_model_builder(name).__module__ for name in TORCHVISION} == families


def test_the_networks_that_are_left_out_are_those_too_large_for_one_file() -> None:
    names = list_models(module=torchvision.models)
    sizes = {name: 4 * get_model_weights(name).DEFAULT.meta["num_params"] for name in names}
    assert [name for name in names if sizes[name] > MAX_BYTES] == sorted(TOO_LARGE)


def test_a_network_that_is_too_large_for_one_file_is_refused() -> None:
    network = nn.Linear(1 << 15, 1 << 14, device="meta")
    with pytest.raises(ModelError, match="larger than the 2147483647 bytes that one ONNX file can hold"):
        to_onnx(network, (224, 224), {})
