"""Every network of timm is a name: created for the size of the images, trained, stored and loaded, never fetched."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from labels import MASKED_FACES, LabelScheme
from model import FactoredHead, create_model, is_model
from networks.timm_networks import TimmModel, is_timm, statistics_of, timm_names, usual_size
from optimization import ExponentialMovingAverage
from runtime.determinism import use_deterministic_kernels
from runtime.errors import ConfigError

CODE = Path(__file__).parents[2] / "code"
PLAIN = LabelScheme("folders", ("cat", "dog", "bird"))
SMALL = ("timm/resnet10t", "timm/test_vit", "timm/mobilenetv3_small_050")
# One network of each of these families, and a size of images that it takes.
FAMILIES = {
    "timm/beit_base_patch16_224": (64, 48),
    "timm/caformer_s18": (64, 48),
    "timm/coatnet_nano_cc_224": (64, 64),
    "timm/convnext_atto": (64, 48),
    "timm/deit_tiny_distilled_patch16_224": (64, 48),
    "timm/densenet121": (64, 48),
    "timm/edgenext_xx_small": (64, 64),
    "timm/efficientvit_b0": (64, 48),
    "timm/eva02_tiny_patch14_224": (70, 56),
    "timm/fastvit_t8": (64, 64),
    "timm/hiera_tiny_224": (64, 64),
    "timm/inception_next_atto": (64, 48),
    "timm/levit_128s": (64, 64),
    "timm/maxvit_pico_rw_256": (64, 64),
    "timm/mixer_s32_224": (64, 64),
    "timm/mobilevit_xxs": (64, 64),
    "timm/pvt_v2_b0": (64, 48),
    "timm/regnetx_002": (64, 48),
    "timm/repvit_m0_9": (64, 48),
    "timm/swin_tiny_patch4_window7_224": (64, 64),
    "timm/tf_efficientnet_lite0": (64, 48),
    "timm/vit_tiny_patch16_224": (64, 48),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection an error."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def take_a_step(name: str, size: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    """Create a network with three outputs, and take a step with kernels that have the same bits in every run."""
    torch.manual_seed(1)
    use_deterministic_kernels(True)
    torch.use_deterministic_algorithms(True)
    model = create_model(name, PLAIN, size=size).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return model.eval(), torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", SMALL)
def test_a_step_has_the_same_bits_in_every_run(name: str) -> None:
    (model, found), (_, again) = (take_a_step(name, (64, 48)) for _ in range(2))
    assert isinstance(model, TimmModel)
    assert torch.equal(found, again)


@pytest.mark.networks
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_a_step_with_the_same_bits_in_every_run(name: str) -> None:
    (model, found), (_, again) = (take_a_step(name, FAMILIES[name]) for _ in range(2))
    assert torch.equal(found, again)
    with torch.inference_mode():
        assert model(torch.randn(1, 3, *FAMILIES[name])).shape == (1, 3)


@pytest.mark.networks
@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_of_every_family_is_what_depends_on_the_number_of_classes(name: str) -> None:
    """Weights for other classes are loaded but for the head, so its name has to be the right one."""
    few, many = (TimmModel(count, name, FAMILIES[name]).eval() for count in (3, 5))
    shapes = {key: tensor.shape for key, tensor in few.backbone.state_dict().items()}
    different = {key for key, tensor in many.backbone.state_dict().items() if tensor.shape != shapes[key]}
    assert different
    assert {key.rpartition(".")[0] for key in different} == set(few.heads)


def test_a_network_computes_what_timm_computes() -> None:
    model = create_model("timm/resnet10t", PLAIN, size=(40, 32)).eval()
    twin = timm.create_model("resnet10t", num_classes=3).eval()
    assert isinstance(model, TimmModel)
    twin.load_state_dict(model.backbone.state_dict())
    images = torch.randn(2, 3, 40, 32)
    assert torch.equal(model(images), twin(images))


def test_a_network_whose_weights_depend_on_the_size_gets_the_size() -> None:
    model = create_model("timm/test_vit", PLAIN, size=(64, 48))
    assert model.state_dict()["backbone.pos_embed"].shape[1] == 1 + 4 * 3


def test_a_factored_head_goes_on_a_network_of_timm() -> None:
    model = create_model("timm/resnet10t", MASKED_FACES, head="factored", size=(32, 32)).eval()
    assert isinstance(model, FactoredHead)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 18)
    assert model.network(torch.randn(2, 3, 32, 32)).shape == (2, 8)


@pytest.mark.parametrize("name", ["timm/convnext_tiny", "timm/convnext_tiny.dinov3_lvd1689m"])
def test_a_name_may_have_the_tag_of_its_weights(name: str) -> None:
    assert is_model(name)
    assert name in timm_names()


@pytest.mark.parametrize("name", ["resnet10t", "timm/", "timm/resnet10", "timm/convnext_tiny.none", "timm/hf-hub:a/b"])
def test_any_other_name_is_unknown(name: str) -> None:
    assert not is_timm(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("timm/resnet181", "timm/resnet18"),
        ("timm/convnext_tiny.dinov3", "timm/convnext_tiny.dinov3_lvd1689m"),
        ("efficientnet_lite0", "timm/efficientnet_lite0"),
        ("resnet19", "resnet18"),
        ("timm/hf-hub:a/b", ""),
    ],
)
def test_an_unknown_name_lists_the_nearest_of_both_libraries(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_model(name, PLAIN)
    first, choices = str(caught.value).split("; choose from ")
    assert first.startswith(f"unknown model '{name}'")
    assert not nearest or nearest in choices.split(", ")[:3]


@pytest.mark.parametrize(
    ("name", "size", "usual"),
    [("timm/nest_tiny", (64, 48), "224 224"), ("timm/test_vit", (8, 8), "160 160")],
)
def test_a_size_that_a_network_does_not_take_is_an_error(name: str, size: tuple[int, int], usual: str) -> None:
    shown = f"{size[0]} x {size[1]} pixels"
    sentence = f"^model '{name}' cannot take images of {shown}; try a larger --resize, such as {usual}$"
    with pytest.raises(ConfigError, match=sentence):
        create_model(name, PLAIN, size=size)


def test_what_timm_knows_about_weights_is_read_without_them() -> None:
    assert usual_size("timm/convnext_tiny.dinov3_lvd1689m") == (224, 224)
    assert statistics_of("timm/convnext_tiny.dinov3_lvd1689m").mean == (0.485, 0.456, 0.406)
    assert statistics_of("timm/tf_efficientnet_lite0").std == (0.5, 0.5, 0.5)


def test_a_moving_average_of_levit_computes_with_its_own_attention_biases() -> None:
    """LeViT keeps them in evaluation mode, and an average changes without training mode."""
    model = create_model("timm/levit_128s", PLAIN, size=(64, 64))
    average, images = ExponentialMovingAverage(model, 0.5), torch.randn(2, 3, 64, 64)
    for _ in range(3):
        with torch.no_grad():
            average.module.eval()(images)
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        average.update(model)
    twin = create_model("timm/levit_128s", PLAIN, size=(64, 64)).eval()
    twin.load_state_dict(average.module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(average.module.eval()(images), twin(images))


def test_networks_of_this_job_and_of_torchvision_do_not_import_timm() -> None:
    program = (
        "import sys; from labels import MASKED_FACES; from model import create_model;"
        "[create_model(name, MASKED_FACES, size=(64, 64)) for name in ('BaseModel', 'TinyModel', 'resnet18')];"
        "sys.exit('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=CODE).returncode == 0
