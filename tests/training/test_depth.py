"""The blocks of any network are found from the images to the head, and those of timm's are timm's."""

from itertools import pairwise

import pytest
import timm
import torchvision
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn

from labels import MASKED_FACES
from model import create_model
from optimization import learning_rate_scales
from training.depth import block_names, depths

# The first module of some blocks, and how many there are: as their authors count them, the stem and the head included.
NETWORKS = {
    "BaseModel": (4, ["conv1", "conv2", "conv3", "fc"]),
    "TinyModel": (6, ["stem.0", "blocks.0.conv1", "blocks.3.conv1", "fc"]),
    "resnet18": (10, ["conv1", "layer1.0.conv1", "layer4.1.conv1", "fc"]),
    "efficientnet_b0": (19, ["features.0.0", "features.1.0.block.0.0", "features.8.0", "classifier.1"]),
    "convnext_tiny": (1 + 18 + 3 + 1, ["features.0.0", "features.1.0", "features.2.1", "classifier.2"]),
    "vit_b_16": (14, ["class_token", "encoder.layers.encoder_layer_0.ln_1", "heads.head"]),
    "swin_t": (1 + 12 + 3 + 1, ["features.0.0", "features.1.0.norm1", "features.2.reduction", "head"]),
    "densenet121": (1 + 58 + 3 + 1, ["features.conv0", "features.denseblock1.denselayer1.norm1", "classifier"]),
    "vgg11_bn": (11, ["features.0", "features.4", "classifier.0", "classifier.6"]),
    "squeezenet1_0": (10, ["features.0", "features.3.squeeze", "classifier.1"]),
    "googlenet": (13, ["conv1.conv", "inception3a.branch1.conv", "inception5b.branch1.conv", "fc"]),
    "inception_v3": (17, ["Conv2d_1a_3x3.conv", "Mixed_5b.branch1x1.conv", "Mixed_7c.branch1x1.conv", "fc"]),
    "regnet_y_400mf": (18, ["stem.0", "trunk_output.block1.block1-0.proj.0", "fc"]),
    "shufflenet_v2_x0_5": (19, ["conv1.0", "stage2.0.branch1.0", "conv5.0", "fc"]),
    "maxvit_t": (15, ["stem.0.0", "blocks.2.layers.4.layers.MBconv.layers.pre_norm", "classifier.5"]),
}


def network(name: str) -> nn.Module:
    if name.endswith("Model"):
        return create_model(name, MASKED_FACES)
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    found: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_the_blocks_of_a_network_are_in_order_from_the_stem_to_the_head(name: str) -> None:
    model = network(name)
    found = depths(model)
    assert set(found) == {*dict(model.named_parameters()), *dict(model.named_buffers())}
    names = block_names(found)
    count, expected = NETWORKS[name]
    assert len(names) == count
    assert (names[0], names[-1]) == (expected[0], expected[-1])
    assert [block for block in names if block in expected] == expected
    values = [found[key] for key, _ in model.named_parameters() if not key.startswith(("class_token", "encoder.pos"))]
    assert all(before <= after <= before + 1 for before, after in pairwise(values)), "no block is torn apart"


@pytest.mark.parametrize("name", ["TinyModel", "MyModel"])
def test_a_factored_head_and_a_wrapper_change_no_depth(name: str) -> None:
    plain, wrapped = (create_model(name, MASKED_FACES, head=head) for head in ("joint", "factored"))
    assert {f"network.{key}": depth for key, depth in depths(plain).items()} == {
        key: depth for key, depth in depths(wrapped).items() if key != "expansion"
    }
    assert depths(wrapped)["expansion"] == max(depths(wrapped).values())


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "resnet18",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
        "regnetx_002",
    ],
)
def test_layer_decay_of_a_network_of_timm_is_that_of_timm(name: str) -> None:
    model = timm.create_model(name)
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    expected = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    found = learning_rate_scales(depths(model), 0.7)
    assert {id(parameter): found[key] for key, parameter in model.named_parameters()} == expected
    assert {key for key, _ in model.named_buffers()} <= set(found)
    norms = [key for key, _ in model.named_buffers() if key.endswith("running_mean")]
    assert all(found[key] == found[key.replace("running_mean", "weight")] for key in norms)


def test_a_head_has_a_learning_rate_of_its_own() -> None:
    found = learning_rate_scales({"stem": 0, "block": 1, "head": 2}, 0.5, head=3.0)
    assert found == {"stem": 0.25, "block": 0.5, "head": 3.0}
