"""The original's network is the same to the last weight, and all of torchvision and the factored head work."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from labels import MASKED_FACES, LabelScheme
from model import BaseModel, FactoredHead, MyModel, TinyModel, _Block, create_model, is_model, load_state, model_names
from runtime.errors import ConfigError

CODE = Path(__file__).parents[1] / "code"
PLAIN = LabelScheme("folders", ("cat", "dog", "bird"))

# The smallest network of every family of torchvision, by the prefix of the family's names.
FAMILIES = {
    "alexnet": "alexnet",
    "convnext": "convnext_tiny",
    "densenet": "densenet121",
    "efficientnet_b": "efficientnet_b0",
    "efficientnet_v2": "efficientnet_v2_s",
    "googlenet": "googlenet",
    "inception": "inception_v3",
    "maxvit": "maxvit_t",
    "mnasnet": "mnasnet0_5",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3_small",
    "regnet_x": "regnet_x_400mf",
    "regnet_y": "regnet_y_400mf",
    "resnet": "resnet18",
    "resnext": "resnext50_32x4d",
    "shufflenet": "shufflenet_v2_x0_5",
    "squeezenet": "squeezenet1_1",
    "swin_v2": "swin_v2_t",
    "swin": "swin_t",
    "vgg": "vgg11",
    "vit": "vit_b_32",
    "wide_resnet": "wide_resnet50_2",
}
SQUARE_ONLY = ("maxvit", "vit")


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def original_model(num_classes: int) -> nn.Sequential:
    """Return the original's network, layer by layer."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, kernel_size=7, stride=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, kernel_size=3, stride=1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Dropout(0.25)),
        *(nn.Conv2d(64, 128, kernel_size=3, stride=1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Dropout(0.25)),
        *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(128, num_classes)),
    )


def test_base_model_has_the_parameters_and_keys_of_the_original() -> None:
    model = BaseModel(18)
    assert parameters(model) == 99_410
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == {
        "conv1.weight": (32, 3, 7, 7),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "conv3.weight": (128, 64, 3, 3),
        "conv3.bias": (128,),
        "fc.weight": (18, 128),
        "fc.bias": (18,),
    }


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_base_model_computes_what_the_original_computes(training: bool) -> None:
    model, twin = BaseModel(18).train(training), original_model(18).train(training)
    twin.load_state_dict(dict(zip(twin.state_dict(), model.state_dict().values(), strict=True)))
    images = torch.randn(3, 3, 64, 48)
    outputs = []
    for network in (model, twin):
        torch.manual_seed(1)  # the same dropout
        outputs.append(network(images))
    torch.testing.assert_close(*outputs)


def test_tiny_model_is_small() -> None:
    assert parameters(TinyModel(18)) < 1_250_000


@pytest.mark.parametrize("size", [(8, 8), (31, 17), (128, 96)])
def test_tiny_model_takes_images_of_any_size(size: tuple[int, int]) -> None:
    model = create_model("TinyModel", MASKED_FACES, size=size)
    assert model(torch.randn(2, 3, *size)).shape == (2, 18)


@pytest.mark.parametrize("network", [BaseModel, TinyModel])
def test_the_smallest_side_is_the_smallest_that_a_network_takes(network: type[BaseModel | TinyModel]) -> None:
    side = network.smallest_side
    model = create_model(network.__name__, MASKED_FACES, size=(side, side + 1)).eval()
    assert model(torch.randn(1, 3, side, side + 1)).shape == (1, 18)
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 3, side + 1, side - 1))
    with pytest.raises(ConfigError, match=r"try a larger --resize$"):
        create_model(network.__name__, MASKED_FACES, size=(side + 1, side - 1))


def test_a_block_of_tiny_model_starts_as_its_shortcut() -> None:
    block = TinyModel(18).blocks[1]
    assert isinstance(block, _Block)
    features = torch.randn(2, 32, 8, 6)
    torch.testing.assert_close(block(features), block.shortcut(features).relu())


def test_tiny_model_can_overfit_a_batch() -> None:
    model = TinyModel(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = torch.randn(16, 3, 32, 24), torch.arange(16) % 4
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch 2.10 has no types here
        optimizer.step()
    assert (model.eval()(images).argmax(1) == labels).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_torchvision_gives_one_logit_per_class(family: str) -> None:
    size = (224, 224) if family in SQUARE_ONLY else (128, 96)
    model = create_model(FAMILIES[family], MASKED_FACES, size=size)  # runs one image on the meta device
    assert isinstance(model, MyModel)
    assert model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert [*model.state_dict().values()][-1].shape[0] == 18, "pretrained.py relies on the last layer being last"


def test_every_network_of_torchvision_belongs_to_a_tested_family() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    assert [name for name in names if not name.startswith(tuple(FAMILIES))] == []
    assert model_names() == ["BaseModel", "TinyModel", "MyModel", *names]
    assert all(is_model(name) for name in model_names())


def test_a_network_of_torchvision_computes_what_torchvision_computes() -> None:
    model = create_model("resnet18", PLAIN, size=(40, 32)).eval()
    twin = torchvision.models.resnet18(num_classes=3).eval()
    assert isinstance(model, MyModel)
    twin.load_state_dict(model.backbone.state_dict())
    images = torch.randn(2, 3, 40, 32)
    assert torch.equal(model(images), twin(images))
    assert model(images).shape == (2, 3)


def test_my_model_is_a_resnet18_by_default() -> None:
    networks = (create_model("MyModel", PLAIN, size=(64, 64)), MyModel(3))
    assert all(isinstance(model.backbone, torchvision.models.ResNet) for model in networks)
    assert parameters(networks[0]) == parameters(torchvision.models.resnet18(num_classes=3))
    assert isinstance(MyModel(3, "squeezenet1_1").backbone, torchvision.models.SqueezeNet)
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet19' \(did you mean 'resnet1\d+'\?\)"):
        MyModel(3, "resnet19")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_off(name: str) -> None:
    model = create_model(name, PLAIN, size=(128, 96)).train()
    assert isinstance(model(torch.randn(2, 3, 128, 96)), Tensor)


@pytest.mark.parametrize("name", ["resnet19", "BaseMdoel", "fcn_resnet50", "mobilenet"])
def test_an_unknown_model_names_the_nearest(name: str) -> None:
    assert not is_model(name)
    with pytest.raises(
        ConfigError, match=rf"^unknown model '{name}' \(did you mean '.*'\?\); choose from .* and \d+ m"
    ):
        create_model(name, MASKED_FACES)


@pytest.mark.parametrize(
    ("name", "size"), [("BaseModel", (8, 8)), ("alexnet", (32, 32)), ("vgg11", (16, 128)), ("inception_v3", (64, 64))]
)
def test_images_too_small_for_a_model_are_an_error(name: str, size: tuple[int, int]) -> None:
    shown = f"{size[0]} x {size[1]} pixels"
    with pytest.raises(ConfigError, match=f"^model '{name}' cannot take images of {shown}; try a larger --resize$"):
        create_model(name, MASKED_FACES, size=size)


@pytest.mark.parametrize(
    ("name", "size", "unit", "side"),
    [
        ("vit_b_16", (128, 96), 16, 128),
        ("vit_b_32", (100, 100), 32, 128),
        ("vit_h_14", (128, 96), 14, 140),
        ("maxvit_t", (128, 96), 224, 224),
        ("maxvit_t", (256, 256), 224, 448),
    ],
)
def test_the_error_of_a_model_for_square_images_names_a_size_it_takes(
    name: str, size: tuple[int, int], unit: int, side: int
) -> None:
    sentence = f"square images whose side is a multiple of {unit} pixels, got {size[0]} x {size[1]} pixels; "
    with pytest.raises(ConfigError, match=f"^model '{name}' takes {sentence}try --resize {side} {side}$"):
        create_model(name, MASKED_FACES, size=size)


@pytest.mark.parametrize(("name", "side"), [("vit_b_32", 64), ("maxvit_t", 448)])
def test_a_model_for_square_images_takes_the_size_that_its_error_names(name: str, side: int) -> None:
    assert create_model(name, MASKED_FACES, size=(side, side)).training


def test_the_softmax_of_a_factored_head_is_the_product_of_those_of_its_tasks() -> None:
    model = create_model("TinyModel", MASKED_FACES, head="factored", size=(32, 24)).eval()
    assert isinstance(model, FactoredHead)
    images = torch.randn(5, 3, 32, 24)
    values = model.network(images)
    assert values.shape == (5, 3 + 2 + 3)
    mask, gender, age = (part.softmax(1) for part in values.split([3, 2, 3], dim=1))
    found = model(images).softmax(1)  # (5, 18)
    for label in range(18):
        digits = MASKED_FACES.decode(label)
        torch.testing.assert_close(found[:, label], mask[:, digits[0]] * gender[:, digits[1]] * age[:, digits[2]])


def test_a_factored_head_adds_no_parameters_and_no_state() -> None:
    model = create_model("BaseModel", MASKED_FACES, head="factored")
    assert parameters(model) == 99_410 - 10 * 129
    assert set(model.state_dict()) == {f"network.{key}" for key in BaseModel(8).state_dict()}
    assert [tensor.shape for tensor in model.buffers()] == [(8, 18)]


def test_a_factored_head_adds_in_float32_under_autocast() -> None:
    model = create_model("TinyModel", MASKED_FACES, head="factored", size=(32, 24)).eval()
    assert isinstance(model, FactoredHead)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 3, 32, 24))
        assert model.network(torch.randn(2, 3, 32, 24)).dtype == torch.bfloat16
    assert logits.dtype == torch.float32


def test_a_factored_head_needs_tasks() -> None:
    with pytest.raises(ConfigError, match="--head factored needs classes made of tasks, and 'folders' has none"):
        create_model("BaseModel", PLAIN, head="factored")


def test_the_same_seed_creates_the_same_weights() -> None:
    built = []
    for _ in range(2):
        torch.manual_seed(3)
        built.append(create_model("TinyModel", MASKED_FACES).state_dict())
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])


def test_base_model_and_tiny_model_do_not_import_torchvision() -> None:
    program = (
        "import sys; from labels import MASKED_FACES; from model import create_model, load_state;"
        "models = [create_model(name, MASKED_FACES) for name in ('BaseModel', 'TinyModel')];"
        "load_state(models[0], models[0].state_dict()); sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=CODE).returncode == 0


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_old_state_dict_of_the_original_loads(prefix: str) -> None:
    model, old = BaseModel(18), BaseModel(18).state_dict()
    load_state(model, {prefix + key: tensor for key, tensor in old.items()})
    assert all(torch.equal(tensor, old[key]) for key, tensor in model.state_dict().items())
