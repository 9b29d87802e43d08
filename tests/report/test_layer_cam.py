"""The heat lies where the class is, for every kind of network, and computing it leaves the network as it was."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from labels import MASKED_FACES, LabelScheme
from model import FactoredHead, TinyModel, create_model
from report.heat import NoHeatMap
from report.layer_cam import Grid, LayerCam, find_target, heat_of

COLORS = LabelScheme("colours", ("red", "green", "blue"))
CPU = torch.device("cpu")
SIZE = (64, 48)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(count: int, draw: torch.Generator, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """Return uint8 images of noise with a patch in the colour of their class, the classes, and masks of the patches."""
    height, width = size
    pixels = torch.randint(0, 120, (count, 3, height, width), generator=draw, dtype=torch.uint8)
    classes = torch.randint(0, 3, (count,), generator=draw)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for index, label in enumerate(classes.tolist()):
        top, left = (int(torch.randint(0, side - side // 3, (), generator=draw)) for side in size)
        masks[index, top : top + height // 3, left : left + width // 3] = True
        pixels[index, label, masks[index]] += 100
    return pixels, classes, masks


def scaled(pixels: Tensor) -> Tensor:
    return (pixels.float() - 80) / 60


def taught(
    create: Callable[[], nn.Module], steps: int, size: tuple[int, int] = SIZE, lr: float = 2e-3, seed: int = 0
) -> nn.Module:
    """Return a network that tells the colours of patches apart.

    The learning rate falls, so that the running statistics of batch norm are those of the last weights.
    """
    torch.manual_seed(seed)
    network, draw = create(), generator(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
    for _ in range(steps):
        pixels, classes, _ = planted(16, draw, size)
        optimizer.zero_grad()
        functional.cross_entropy(network.train()(scaled(pixels)), classes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def explained(network: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """Return heat maps of the size of the images."""
    found = LayerCam(network, scaled, CPU)(pixels.permute(0, 2, 3, 1).numpy(), classes.numpy())
    heat = torch.from_numpy(found.maps).unsqueeze(1)
    return functional.interpolate(heat, pixels.shape[2:], mode="bicubic").squeeze(1).clamp(min=0)


def check_the_heat_is_in_the_patch(network: nn.Module, size: tuple[int, int] = SIZE) -> None:
    pixels, classes, masks = planted(24, generator(9), size)
    with torch.no_grad():
        predicted = network(scaled(pixels)).argmax(1)
    assert (predicted == classes).float().mean() > 0.9
    heat = explained(network, pixels, predicted)
    share, area = (heat * masks).sum((1, 2)) / heat.sum((1, 2)), masks.float().mean((1, 2))
    hottest = heat.flatten(1).argmax(1, keepdim=True)
    inside = masks.flatten(1).gather(1, hottest).float().mean()  # of a map of no use, as often as the area
    assert share.mean() > 2 * area.mean()
    assert inside > 4 * area.mean()


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return taught(partial(TinyModel, 3), 40)


def test_the_heat_of_a_small_network_is_in_the_patch_of_the_class(tiny: nn.Module) -> None:
    check_the_heat_is_in_the_patch(tiny)


@pytest.mark.networks
def test_the_heat_of_a_network_of_torchvision_is_in_the_patch_of_the_class() -> None:
    size = (128, 96)
    create = partial(create_model, "resnet18", COLORS, size=size)
    check_the_heat_is_in_the_patch(taught(create, 60, size, 1e-3), size)


@pytest.mark.networks
def test_the_heat_of_a_transformer_is_in_the_patch_of_the_class() -> None:
    from timm.models.vision_transformer import VisionTransformer

    create = partial(VisionTransformer, img_size=64, patch_size=8, embed_dim=64, depth=3, num_heads=4, num_classes=3)
    check_the_heat_is_in_the_patch(taught(create, 100, (64, 64)), (64, 64))


def test_the_heat_of_another_class_is_elsewhere(tiny: nn.Module) -> None:
    pixels, classes, _ = planted(8, generator(5))
    assert not torch.equal(explained(tiny, pixels, classes), explained(tiny, pixels, (classes + 1) % 3))


def test_computing_heat_changes_nothing(tiny: nn.Module) -> None:
    network = copy.deepcopy(tiny).train()
    network.get_submodule("blocks.0").eval()  # as of a frozen block
    network.get_submodule("stem").requires_grad_(False)
    modes = [module.training for module in network.modules()]
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    pixels, classes, _ = planted(11, generator(5))
    first, again = explained(network, pixels, classes), explained(network, pixels, classes)
    assert torch.equal(first, again)
    assert torch.equal(random, torch.get_rng_state())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is not None and (parameter.grad == 1).all() for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in network.get_submodule("stem").parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_the_heat_of_an_image_does_not_depend_on_its_company(tiny: nn.Module) -> None:
    pixels, classes, _ = planted(11, generator(5))
    together = explained(tiny, pixels, classes)
    torch.testing.assert_close(explained(tiny, pixels[9:10], classes[9:10]), together[9:10])


def test_a_map_equals_activation_times_gradient_of_a_network_that_is_written_out() -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 3)
    network = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()
    images = torch.randn(4, 3, 8, 6)
    target = find_target(network, images[0])
    assert (target.name, target.grid) == ("1", Grid(8, 6, 1))
    classes = torch.tensor((0, 2, 1, 0))
    found = heat_of(network, target, images, classes)
    activations = convolution(images).relu()
    expected = (activations * linear.weight[classes].relu()[:, :, None, None]).sum(1)
    torch.testing.assert_close(found, (expected / expected.amax((1, 2), keepdim=True)).detach())


def test_the_heat_of_a_factored_head_is_that_of_the_summed_logit() -> None:
    torch.manual_seed(0)
    tiny = TinyModel(8)
    network = FactoredHead(tiny, MASKED_FACES).eval()
    images = torch.randn(2, 3, *SIZE)
    target = find_target(network, images[0])
    label = MASKED_FACES.encode(2, 1, 0)
    alone = copy.deepcopy(tiny)
    with torch.no_grad():  # one output that is the sum of those of mask 2, gender 1 and age 0
        alone.fc.weight[0] = tiny.fc.weight[[2, 3 + 1, 5 + 0]].sum(0)
    expected = heat_of(alone, find_target(alone, images[0]), images, torch.tensor((0, 0)))
    torch.testing.assert_close(heat_of(network, target, images, torch.tensor((label, label))), expected)


@pytest.mark.parametrize(
    ("name", "size", "layer", "grid"),
    [
        ("BaseModel", (64, 48), "dropout2", (13, 9)),
        ("TinyModel", (128, 96), "blocks.2", (8, 6)),
        ("resnet18", (128, 96), "backbone.layer3", (8, 6)),
        ("mobilenet_v3_small", (224, 224), "backbone.features", (7, 7)),
        pytest.param("vgg11", (128, 96), "backbone.features.19", (8, 6), marks=pytest.mark.networks),
        pytest.param(
            "vit_b_32", (224, 224), "backbone.encoder.layers.encoder_layer_11.ln_1", (7, 7), marks=pytest.mark.networks
        ),
        pytest.param("swin_t", (224, 224), "backbone.permute", (7, 7), marks=pytest.mark.networks),
        pytest.param("swin_t", (128, 96), "backbone.features.5", (8, 6), marks=pytest.mark.networks),
        pytest.param("densenet121", (224, 224), "backbone.features", (7, 7), marks=pytest.mark.networks),
        pytest.param(
            "timm/vit_tiny_patch16_224", (224, 224), "backbone.blocks.11.attn.qkv", (14, 14), marks=pytest.mark.networks
        ),
        pytest.param(
            "timm/swin_tiny_patch4_window7_224", (224, 224), "backbone.norm", (7, 7), marks=pytest.mark.networks
        ),
        pytest.param("timm/convnext_atto", (224, 224), "backbone.norm_pre", (7, 7), marks=pytest.mark.networks),
        pytest.param(
            "timm/tf_efficientnet_lite0", (160, 120), "backbone.blocks.5.0.bn1", (10, 8), marks=pytest.mark.networks
        ),
    ],
)
def test_every_kind_of_network_has_a_layer_to_look_at(
    name: str, size: tuple[int, int], layer: str, grid: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = create_model(name, COLORS, size=size).eval()
    for parameter in list(network.parameters())[-2:]:  # some networks start with a head of zeros
        nn.init.normal_(parameter)
    images = torch.randn(2, 3, *size)
    target = find_target(network, images[0])
    assert (target.name, target.grid[:2]) == (layer, grid)
    heat = heat_of(network, target, images, torch.tensor((0, 2)))
    assert heat.shape == (2, *grid)
    assert heat.isfinite().all()
    assert (heat.amax((1, 2)) == 1).all()


@pytest.mark.parametrize(
    ("shape", "size", "grid"),
    [
        ((2, 64, 4, 3), (128, 96), Grid(4, 3, 1)),
        ((2, 4, 3, 64), (128, 96), Grid(4, 3, 3)),
        ((2, 197, 64), (224, 224), Grid(14, 14, 2, 1)),
        ((2, 196, 64), (224, 224), Grid(14, 14, 2, 0)),
        ((2, 48 + 5, 64), (128, 96), Grid(8, 6, 2, 5)),
        ((2, 12, 197, 64), (224, 224), None),
        ((2, 64, 1, 1), (224, 224), None),
        ((2, 64), (224, 224), None),
    ],
)
def test_a_grid_is_found_in_the_shape_of_an_output(
    shape: tuple[int, ...], size: tuple[int, int], grid: Grid | None
) -> None:
    assert Grid.of(torch.Size(shape), *size) == grid


class Failing(nn.Module):
    """A network whose gradient torch cannot compute."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("adaptive_pool_backward has no deterministic implementation\nmore")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 48, 3)), "^no layer has an output that is a grid"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), _Zero()), "^no layer has an"),
        (Failing, "^adaptive_pool_backward has no deterministic implementation$"),
    ],
)
def test_a_network_without_heat_maps_has_a_reason(network: Callable[[], nn.Module], reason: str) -> None:
    pixels: NDArray[np.uint8] = np.zeros((2, 64, 48, 3), np.uint8)
    with pytest.raises(NoHeatMap, match=reason):
        LayerCam(network(), scaled, CPU)(pixels, np.zeros(2, np.int64))


class _Zero(nn.Module):
    """A head of zeros, which depends on nothing."""

    def forward(self, features: Tensor) -> Tensor:
        return features * 0


def test_heat_that_does_not_fit_into_memory_is_computed_in_micro_batches(
    tiny: nn.Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, classes, _ = planted(8, generator(5))
    expected = explained(tiny, pixels, classes)

    def little_memory(network: nn.Module, target: object, images: Tensor, wanted: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return heat_of(network, target, images, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr("report.layer_cam.heat_of", little_memory)
    torch.testing.assert_close(explained(tiny, pixels, classes), expected)
    assert "micro-batches of 2 images" in capsys.readouterr().err
