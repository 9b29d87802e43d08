"""Networks by name: the original's BaseModel, a small one for CPUs and few images, all of torchvision and of timm.

A network maps normalised images (batch, 3, height, width) to logits (batch, classes). With a factored head, it has one
output per value of each task, and logit[class] = mask[...] + gender[...] + age[...]. The softmax then treats the tasks
as independent, which takes far fewer images to learn.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from labels import LabelScheme
from networks.drop_path import set_drop_path
from networks.timm_networks import TimmModel, is_timm, timm_names, usual_size
from pretrained import DEFAULT_BACKBONE, load_state
from runtime.errors import ConfigError, unknown_name

__all__ = [
    "BaseModel",
    "FactoredHead",
    "MyModel",
    "TinyModel",
    "create_model",
    "is_model",
    "load_state",
    "model_names",
]


class BaseModel(nn.Module):
    """The original's baseline: three convolutions without padding, average pool, a linear layer; 99,410 parameters."""

    smallest_side = 16  # of an image in pixels: one position is left for the average pool

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=7, stride=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, stride=1)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3, stride=1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.25)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.conv1(images))
        features = functional.relu(self.conv2(features))
        features = self.dropout1(functional.max_pool2d(features, 2, 2))
        features = functional.relu(self.conv3(features))
        features = self.dropout2(functional.max_pool2d(features, 2, 2))
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


class TinyModel(nn.Module):
    """A residual network with a stem and four blocks, each of stride 2: fast on a CPU, 1.2 million parameters.

    The last batch norm of each block is initialised to zero, so that a block starts as its shortcut (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017). The shortcut pools before its projection (He et al., Bag of Tricks, 2019).
    """

    smallest_side = 1

    def __init__(self, num_classes: int, width: int = 32, dropout: float = 0.2) -> None:
        super().__init__()
        stem = nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*(_Block(before, after) for before, after in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.stem(images)).mean((2, 3))  # (batch, 8 * width)
        logits: Tensor = self.fc(self.dropout(features))
        return logits


class _Block(nn.Module):
    """A residual block: two 3x3 convolutions, the first with stride 2, and a pooled shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        project = nn.Conv2d(before, after, kernel_size=1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), project, nn.BatchNorm2d(after))
        nn.init.zeros_(self.norm2.weight)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(features)))
        return functional.relu(self.shortcut(features) + self.norm2(self.conv2(inner)))


class MyModel(nn.Module):
    """A classifier of torchvision by name, with random weights and `num_classes` outputs."""

    def __init__(self, num_classes: int, backbone: str = DEFAULT_BACKBONE, size: tuple[int, int] = (224, 224)) -> None:
        """Create the backbone for images of `size` (height, width), which some transformers depend on.

        Raises ConfigError if the backbone is unknown, or if it is a transformer that does not take this size.
        """
        super().__init__()
        self.backbone = _create_backbone(backbone, num_classes, size)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images)
        return logits


def _create_backbone(name: str, num_classes: int, size: tuple[int, int]) -> nn.Module:
    import torchvision  # here, because it takes a second and BaseModel and TinyModel do not need it

    if name not in _backbones():
        raise ConfigError(unknown_name("backbone", name, _backbones()))
    options: dict[str, object] = {"num_classes": num_classes, "weights": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    if unit := _square_unit(name):
        if size[0] != size[1] or size[0] % unit:
            side = -(-max(size) // unit) * unit
            raise ConfigError(
                f"model {name!r} takes square images whose side is a multiple of {unit} pixels, got {_shown(size)};"
                f" try --resize {side} {side}"
            )
        options |= {"input_size": size} if name == "maxvit_t" else {"image_size": size[0]}
    network: nn.Module = torchvision.models.get_model(name, **options)
    return network


def _backbones() -> list[str]:
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _square_unit(name: str) -> int:
    """Return the pixels that the side of an image must be a multiple of, if the network needs squares; else 0."""
    if name.startswith("vit_"):
        return int(name.rpartition("_")[2])  # one patch
    return 224 if name == "maxvit_t" else 0  # five halvings, then windows of 7


class FactoredHead(nn.Module):
    """Turn the outputs of a network, one per value of each task, into one logit per class by adding them."""

    expansion: Tensor

    def __init__(self, network: nn.Module, scheme: LabelScheme) -> None:
        super().__init__()
        self.network = network
        expansion = [
            [float(scheme.decode(label)[position] == value) for label in range(scheme.num_classes)]
            for position, task in enumerate(scheme.tasks)
            for value in range(len(task.classes))
        ]
        self.register_buffer("expansion", torch.tensor(expansion), persistent=False)  # (values of all tasks, classes)

    def forward(self, images: Tensor) -> Tensor:
        values = self.network(images).float()
        with torch.autocast(values.device.type, enabled=False):  # these sums are cheap in float32
            logits: Tensor = values @ self.expansion
        return logits


_models: dict[str, Callable[[int], nn.Module]] = {"BaseModel": BaseModel, "TinyModel": TinyModel}


def model_names() -> list[str]:
    """Return every name that `create_model` accepts, but for those of timm (see `timm_names`)."""
    return [*_models, "MyModel", *_backbones()]


def known_models() -> list[str]:
    """Return every name that `create_model` accepts."""
    return [*model_names(), *timm_names()]


def is_model(name: str) -> bool:
    """Return True if `create_model` accepts this name."""
    return name in _models or is_timm(name) or name in model_names()


def create_model(
    name: str,
    scheme: LabelScheme,
    *,
    head: str = "joint",
    size: tuple[int, int] = (128, 96),
    drop_path: float | None = None,
) -> nn.Module:
    """Create a network with random weights for images of `size` (height, width) in pixels.

    `head` is joint (one output per class) or factored (see FactoredHead). `drop_path` (see networks/drop_path.py)
    matters in training only. Raises ConfigError for an unknown name, a size that the network does not take, a factored
    head for a scheme without tasks, or a drop path that the network does not have.
    """
    if not is_model(name):
        raise ConfigError(unknown_name("model", name, known_models()))
    if head == "factored" and not scheme.tasks:
        raise ConfigError(
            f"--head factored needs classes made of tasks, and {scheme.name!r} has none; use --head joint"
        )
    outputs = sum(len(task.classes) for task in scheme.tasks) if head == "factored" else scheme.num_classes
    model = _create_network(name, outputs, size, drop_path)
    if drop_path is not None:
        set_drop_path(model, drop_path, name)
    _check_size(model, name, size, outputs)
    return FactoredHead(model, scheme) if head == "factored" else model


def _create_network(name: str, outputs: int, size: tuple[int, int], drop_path: float | None) -> nn.Module:
    if name in _models:
        return _models[name](outputs)
    if is_timm(name):
        return TimmModel(outputs, name, size, drop_path)
    return MyModel(outputs, DEFAULT_BACKBONE if name == "MyModel" else name, size)


def _check_size(model: nn.Module, name: str, size: tuple[int, int], outputs: int) -> None:
    """Raise ConfigError for a size the network does not take."""
    if isinstance(model, BaseModel | TinyModel):
        if min(size) < model.smallest_side:
            raise ConfigError(_too_small(name, size))
    else:
        _try_size(model, name, size, outputs)


def _try_size(model: nn.Module, name: str, size: tuple[int, int], outputs: int) -> None:
    """Raise ConfigError for a size the network does not take: run one image on the meta device, without computing.

    The first convolution there imports much of torch, for most of a second.
    """
    shapes = {key: tensor.to("meta") for key, tensor in (*model.named_parameters(), *model.named_buffers())}
    try:
        logits = functional_call(model.eval(), shapes, torch.empty(1, 3, *size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        usual = usual_size(name) if isinstance(model, TimmModel) else None
        larger = f", such as {usual[0]} {usual[1]}" if usual else ""
        raise ConfigError(_too_small(name, size) + larger) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, outputs):
        raise ConfigError(f"model {name!r} is no classifier: it does not give one number per class; choose another")
    model.train()


def _too_small(name: str, size: tuple[int, int]) -> str:
    return f"model {name!r} cannot take images of {_shown(size)}; try a larger --resize"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
