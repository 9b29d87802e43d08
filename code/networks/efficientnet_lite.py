"""EfficientNet-Lite under the names of `efficientnet_pytorch`, in which its ImageNet weights are published.

There the blocks are numbered through, `_blocks.5._expand_conv`, and in timm by stage, `blocks.2.1.conv_pw`. Both
describe the same layers in the same order, so timm's network gives the table of the blocks. The weights come from
TensorFlow's, whose images were (x - 127) / 128 with x from 0 to 255.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from weights_cache import Statistics

STATISTICS = Statistics((127 / 255,) * 3, (128 / 255,) * 3)

_FIRST = "_conv_stem.weight"  # a name that timm does not have
_AROUND = {
    **{"_conv_stem": "conv_stem", "_bn0": "bn1"},
    **{"_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"},
}
_WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_WITH_EXPANSION = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1"},
    **{"_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def has_names_of_efficientnet_pytorch(names: Iterable[str]) -> bool:
    """Return True if tensors with these names are those of a network of `efficientnet_pytorch`."""
    return _FIRST in names


def rename_to_timm(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under the names of timm's `network`; a name without a counterpart stays as it is."""
    modules = dict(network.named_modules())
    blocks = [name for name in modules if name.startswith("blocks.") and name.count(".") == 2]
    table = dict(_AROUND)
    for number, block in enumerate(blocks):
        layers = _WITH_EXPANSION if f"{block}.conv_pwl" in modules else _WITHOUT_EXPANSION
        table |= {f"_blocks.{number}.{theirs}": f"{block}.{ours}" for theirs, ours in layers.items()}
    renamed = {}
    for name, tensor in state.items():
        layer, dot, rest = name.rpartition(".")
        renamed[table.get(layer, layer) + dot + rest] = tensor
    return renamed
