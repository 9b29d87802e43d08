"""Drop path rises from the first block to the last, and a network without it is named."""

import pytest
import timm
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from labels import MASKED_FACES
from model import create_model
from networks.drop_path import set_drop_path
from runtime.errors import ConfigError


def rates(model: nn.Module) -> list[float]:
    return [module.p for module in model.modules() if isinstance(module, StochasticDepth)]


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny"])
def test_drop_path_is_that_of_the_constructor(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None)
    before = rates(model)
    set_drop_path(model, 0.3, name)
    assert rates(model) == pytest.approx([rate * 0.3 / max(before) for rate in before])
    assert max(rates(model)) == pytest.approx(0.3)
    assert rates(model)[0] == 0


def test_drop_path_of_timm_is_that_of_its_constructor() -> None:
    model = create_model("timm/resnet18", MASKED_FACES, size=(32, 32), drop_path=0.4)
    expected = timm.create_model("resnet18", drop_path_rate=0.4)
    found, wanted = (
        [module.drop_prob for module in one.modules() if type(module).__name__ == "DropPath"]
        for one in (model, expected)
    )
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["TinyModel", "resnet18", "timm/vgg11"])
def test_a_network_without_drop_path_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--drop-path: model '{name}' has none; leave it out, or choose"):
        create_model(name, MASKED_FACES, size=(64, 64), drop_path=0.1)
    create_model(name, MASKED_FACES, size=(64, 64), drop_path=0.0)


def test_a_drop_path_of_0_takes_away_that_of_the_network_itself() -> None:
    """timm's TinyViT of 11 million weights has one of 0.1."""
    model = create_model("timm/tiny_vit_11m_224", MASKED_FACES, size=(64, 64), drop_path=0.0)
    assert {module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"} == {0.0}
