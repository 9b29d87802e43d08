"""Networks by name: the seed's BaseModel, a small one for CPUs and few pictures, and every classifier of torchvision.

A network maps normalised pictures (batch, 3, height, width) to logits (batch, classes). With a factored head it ends
in one output per value of each task and adds them up, logit[class] = mask[...] + gender[...] + age[...]: softmax then
makes the tasks independent of each other, which needs far fewer pictures to learn.
"""

import difflib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from errors import ConfigError, ModelError, unknown_name
from labels import LabelScheme

StateDict = Mapping[str, Tensor]


class BaseModel(nn.Module):
    """The seed's baseline: three convolutions without padding, average pool, one linear layer; 99,410 parameters."""

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
    """A residual network of five strided stages that halves the picture at once: quick on a CPU, 1.2 M parameters.

    The last batch norm of each block starts at zero, so that a block starts as its shortcut (Goyal et al., Accurate,
    Large Minibatch SGD, 2017), and the shortcut pools before it projects (He et al., Bag of Tricks, 2019).
    """

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
    """Two 3x3 convolutions, the first of stride 2, beside a pooled shortcut."""

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
    """A classifier of torchvision by name, without weights, with as many outputs as there are classes."""

    def __init__(self, num_classes: int, backbone: str = "resnet18", size: tuple[int, int] = (224, 224)) -> None:
        """`size` is (height, width) of the pictures, which transformers with fixed positions need to know."""
        super().__init__()
        self.backbone = _create_backbone(backbone, num_classes, size)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images)
        return logits


def _create_backbone(name: str, num_classes: int, size: tuple[int, int]) -> nn.Module:
    import torchvision  # takes a second, and BaseModel and TinyModel do without it

    options: dict[str, object] = {"num_classes": num_classes, "weights": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_") or name == "maxvit_t":
        if size[0] != size[1]:
            raise ConfigError(f"model {name!r} takes square pictures only, got {_shown(size)}; try --resize 224 224")
        options["input_size" if name == "maxvit_t" else "image_size"] = size if name == "maxvit_t" else size[0]
    try:
        network: nn.Module = torchvision.models.get_model(name, **options)
    except ValueError as error:
        raise ConfigError(
            f"model {name!r} cannot take pictures of {_shown(size)} ({error}); try --resize 224 224"
        ) from None
    return network


class FactoredHead(nn.Module):
    """Add up the outputs for the values of each task to one logit per class."""

    expansion: Tensor

    def __init__(self, network: nn.Module, scheme: LabelScheme) -> None:
        super().__init__()
        self.network = network
        rows = [
            [float(scheme.decode(label)[position] == value) for label in range(scheme.num_classes)]
            for position, task in enumerate(scheme.tasks)
            for value in range(len(task.classes))
        ]
        self.register_buffer("expansion", torch.tensor(rows), persistent=False)  # (values of all tasks, classes)

    def forward(self, images: Tensor) -> Tensor:
        values = self.network(images).float()
        with torch.autocast(values.device.type, enabled=False):  # sums of a few logits deserve all their digits
            logits: Tensor = values @ self.expansion
        return logits


_models: dict[str, Callable[[int], nn.Module]] = {"BaseModel": BaseModel, "TinyModel": TinyModel}


def model_names() -> list[str]:
    """Every name that `create_model` knows."""
    import torchvision

    return [*_models, "MyModel", *torchvision.models.list_models(module=torchvision.models)]


def is_model(name: str) -> bool:
    """Whether a model of this name exists."""
    return name in _models or name in model_names()


def create_model(
    name: str, scheme: LabelScheme, *, head: str = "joint", size: tuple[int, int] = (128, 96)
) -> nn.Module:
    """Build a network with random weights; raises ConfigError for an unknown name, or one that cannot take `size`."""
    if not is_model(name):
        raise ConfigError(unknown_name("model", name, model_names()))
    if head == "factored" and not scheme.tasks:
        raise ConfigError(
            f"--head factored needs classes made of tasks, and {scheme.name!r} has none; use --head joint"
        )
    outputs = sum(len(task.classes) for task in scheme.tasks) if head == "factored" else scheme.num_classes
    _check_size(name, outputs, size)
    model = _build(name, outputs, size)
    return FactoredHead(model, scheme) if head == "factored" else model


def _build(name: str, outputs: int, size: tuple[int, int]) -> nn.Module:
    if name in _models:
        return _models[name](outputs)
    return MyModel(outputs, "resnet18" if name == "MyModel" else name, size)


def _check_size(name: str, outputs: int, size: tuple[int, int]) -> None:
    """Run one picture through on the meta device, where shapes are computed and nothing else."""
    try:
        with torch.device("meta"):
            _build(name, outputs, size).eval()(torch.empty(1, 3, *size))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"model {name!r} cannot take pictures of {_shown(size)} ({reason}); try --resize 224 224"
        ) from None


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def load_state(model: nn.Module, state: StateDict) -> None:
    """Load weights that must fit exactly; raises ModelError that says what they are of instead."""
    expected = model.state_dict()
    names = set(expected) ^ set(state)
    if names:
        some = ", ".join(sorted(names)[:3])
        raise ModelError(f"the weights are of another architecture ({len(names)} tensors differ, such as {some})")
    wrong = [name for name in expected if expected[name].shape != state[name].shape]
    if wrong:
        found, wanted = tuple(state[wrong[0]].shape), tuple(expected[wrong[0]].shape)
        raise ModelError(
            f"the weights are for another number of classes or another width: {wrong[0]} is {found}, expected {wanted}"
        )
    model.load_state_dict(state)


def load_pretrained(model: nn.Module, source: Path, name: str) -> str:
    """Start from the weights in a file, or in a folder with one file (or one called `name`); returns what was taken.

    The last layer may differ and then stays random. Raises ModelError if less than half of the weights fit.
    """
    return copy_matching(model, _read_weights(_find_weights(source, name)), str(source))


def download_pretrained(model: nn.Module, name: str) -> str:
    """Start from torchvision's own weights, from its cache or the network; raises ModelError if they cannot be had."""
    import torchvision

    try:
        state = torchvision.models.get_model_weights(name)["DEFAULT"].get_state_dict(check_hash=True, progress=False)
    except (ValueError, KeyError):
        raise ModelError(f"torchvision has no weights for {name!r}; give a file with --pretrained FILE") from None
    except OSError as error:
        raise ModelError(
            f"the weights of {name!r} cannot be downloaded ({error}); give them as the `pretrained` channel instead"
        ) from None
    return copy_matching(model, state, f"torchvision's {name}")


def copy_matching(model: nn.Module, state: StateDict, where: str) -> str:
    """Copy every weight whose name and shape fit, whatever the names are wrapped in."""
    inner = _innermost(model)
    expected = inner.state_dict()
    given = {
        key.removeprefix("module.").removeprefix("network.").removeprefix("backbone."): state[key] for key in state
    }
    fitting = {key: value for key, value in given.items() if key in expected and value.shape == expected[key].shape}
    if 2 * len(fitting) < len(expected):
        missing = difflib.get_close_matches(next(iter(expected)), given, n=1)
        hint = f", it has {missing[0]} of another shape" if missing and missing[0] in expected else ""
        raise ModelError(
            f"only {len(fitting)} of {len(expected)} weights fit the model{hint}; give those of the same: {where}"
        )
    inner.load_state_dict(expected | fitting)
    fresh = [key for key in expected if key not in fitting]
    return f"{len(fitting)} of {len(expected)} weights from {where}" + (
        f", random: {', '.join(fresh)}" if fresh else ""
    )


def _innermost(model: nn.Module) -> nn.Module:
    while isinstance(model, FactoredHead | MyModel):
        model = model.network if isinstance(model, FactoredHead) else model.backbone
    return model


def _find_weights(source: Path, name: str) -> Path:
    if source.is_file():
        return source
    found = [path for path in sorted(source.glob("*")) if path.suffix in (".pth", ".pt", ".safetensors")]
    named = [path for path in found if path.stem == name]
    if len(named or found) != 1:
        listed = ", ".join(path.name for path in found[:4]) or "none"
        raise ModelError(
            f"expected one file of weights (.pth, .pt, .safetensors) or {name}.*, found {listed}: {source}"
        )
    return (named or found)[0]


def _read_weights(path: Path) -> StateDict:
    """Tensors by name, from safetensors or a plain torch.save; nothing but tensors is unpickled."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise whatever they hit upon
        raise ModelError(f"cannot be read as weights ({str(error).splitlines()[0][:100]}): {path}") from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"not a state dict of tensors, expected what model.state_dict() gives: {path}")
    return state
