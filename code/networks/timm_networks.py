"""Networks of timm by name: `timm/convnext_tiny`, or with the tag of its weights `timm/convnext_tiny.dinov3_lvd1689m`.

timm takes seconds to import, so nothing does before a name begins with `timm/`. No function here uses the network: the
weights of a name are files (`make weights`), and only what timm knows about them is read, such as their mean and std.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from networks.drop_path import without_drop_path
from runtime.errors import ConfigError
from weights_cache import Statistics

PREFIX = "timm/"


class TimmModel(nn.Module):
    """A classifier of timm by name, with random weights and `num_classes` outputs."""

    def __init__(
        self, num_classes: int, name: str, size: tuple[int, int] = (224, 224), drop_path: float | None = None
    ) -> None:
        """Create the network `name`, such as `timm/resnet18`, for images of `size` (height, width) in pixels.

        `drop_path` is the probability that the last residual block is left out in training; None is the network's own,
        and so is 0 here: `set_drop_path` sets that.
        Raises ConfigError if it cannot be created for this size, or with a drop path.
        """
        super().__init__()
        try:
            self.backbone = _create(name, num_classes, size, {"drop_path_rate": drop_path} if drop_path else {})
        except TypeError:
            if not drop_path:
                raise
            raise ConfigError(without_drop_path(name)) from None
        self._has_caches = any(hasattr(module, "attention_bias_cache") for module in self.backbone.modules())

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the names of the layers that compute the logits, in the state dict of the backbone."""
        found = self.backbone.pretrained_cfg["classifier"]
        return (found,) if isinstance(found, str) else tuple(found or ())

    def train(self, mode: bool = True) -> "TimmModel":
        """Set the mode; LeViT and its kin forget the attention biases that they keep in evaluation mode.

        They would stay those of earlier weights: those of a moving average change without a step in training mode.
        """
        if self._has_caches and not mode:
            super().train()
        super().train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images)
        return logits


def is_timm(name: str) -> bool:
    """Return True if a name is `timm/` and a network that timm knows, with or without the tag of its weights."""
    if not name.startswith(PREFIX):
        return False
    import timm

    network = name.removeprefix(PREFIX)
    architecture, dot, _ = network.partition(".")
    return bool(timm.is_model(architecture)) and (not dot or network in timm.list_pretrained())


def timm_names() -> list[str]:
    """Return every name that `is_timm` accepts: 1,371 networks, and 1,826 with the tag of their weights."""
    import timm

    return [PREFIX + name for name in (*timm.list_models(), *timm.list_pretrained())]


def usual_size(name: str) -> tuple[int, int]:
    """Return the size (height, width) in pixels of the images that a network of timm was made for."""
    _, height, width = published_config(name)["input_size"]
    return height, width


def statistics_of(name: str) -> Statistics:
    """Return the mean and std of the images that the published weights of a network of timm were trained on."""
    published = published_config(name)
    return Statistics(tuple(published["mean"]), tuple(published["std"]))


def published_config(name: str) -> dict[str, Any]:
    """Return what timm knows about the published weights of a name; of one without a tag, its default weights."""
    import timm

    found = timm.get_pretrained_cfg(name.removeprefix(PREFIX))
    assert found, "is_timm has checked the name"
    return asdict(found)


def convert_published(model: TimmModel, state: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """Return published weights under the names of timm's network, with its position embeddings at its image size.

    timm does this with a function of each family, which it applies to what it fetches; a family without one needs
    nothing. Raises errors of many types for weights of another network.
    """
    import sys

    import timm

    module = sys.modules[timm.model_entrypoint(_architecture(name)).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    with torch.no_grad():
        return dict(convert(dict(state), model.backbone)) if convert else state


def _create(name: str, num_classes: int, size: tuple[int, int], more: Mapping[str, Any]) -> Any:
    """Create a network without weights; one whose weights depend on the size of the image is told the size."""
    import timm

    network, published = name.removeprefix(PREFIX), published_config(name)
    options: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, **more}
    if published["fixed_input_size"]:
        try:
            return timm.create_model(network, **options, img_size=size)
        except (TypeError, AssertionError):  # it takes no size, or only squares; whether this one fits shows in use
            pass
    try:
        return timm.create_model(network, **options)
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"model {name!r} cannot be created ({error}); choose another") from None


def _architecture(name: str) -> str:
    return name.removeprefix(PREFIX).partition(".")[0]
