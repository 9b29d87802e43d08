"""How deep each tensor of a network lies: which of its blocks it belongs to, counted from the images to the head.

    depths(resnet18)   # {"conv1.weight": 0, "bn1.weight": 0, ..., "layer1.0.conv1.weight": 1, ..., "fc.weight": 9}

A network of timm says so itself (`group_matcher`), and its blocks are those of timm's layer decay. In any other network
a block is the smallest module that is not a mere list of modules: a convolution, a residual or transformer block. Norms
belong to the block before them. The last block is the head, which computes the logits.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def depths(model: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter and buffer of a network by name: 0 for the stem, the largest for the head."""
    prefix, network = _unwrap(model)
    found = _depths_of_timm(network) if hasattr(network, "group_matcher") else _depths_of_blocks(network)
    head = max(found.values())
    inner = {prefix + name: depth for name, depth in found.items()}
    # What is outside of the network, such as the table of a factored head, comes after it.
    return {name: inner.get(name, head) for name, _ in _named_tensors(model)}


def block_names(found: dict[str, int]) -> list[str]:
    """Return the name of the first tensor of each block, from the stem to the head, to show where a block begins."""
    first: dict[int, str] = {}
    for name, depth in found.items():
        first.setdefault(depth, name)
    return [first[depth].rpartition(".")[0] or first[depth] for depth in sorted(first)]


def _unwrap(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the network within wrappers, such as a factored head, and the prefix of its names."""
    prefix = ""
    while not hasattr(model, "group_matcher"):
        own = next(model.parameters(recurse=False), None)
        inner = [(name, child) for name, child in model.named_children() if any(True for _ in child.parameters())]
        if own is not None or len(inner) != 1 or not any(True for _ in inner[0][1].children()):
            break
        prefix, model = f"{prefix}{inner[0][0]}.", inner[0][1]
    return prefix, model


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _depths_of_timm(network: nn.Module) -> dict[str, int]:
    """Return the depths by which timm's layer decay groups the parameters of one of its networks, and its buffers."""
    from timm.models import group_parameters

    matcher = network.group_matcher(coarse=False)  # type: ignore[operator]
    found: dict[str, int] = group_parameters(network, matcher, reverse=True)
    return found | {name: _depth_around(name, found) for name, _ in network.named_buffers()}


def _depth_around(name: str, found: Mapping[str, int]) -> int:
    """Return the depth of the smallest module around a tensor that has a parameter."""
    prefix = name.rpartition(".")[0]
    inner = [depth for other, depth in found.items() if not prefix or other.startswith(f"{prefix}.")]
    return max(inner) if inner else _depth_around(prefix, found)


def _depths_of_blocks(network: nn.Module) -> dict[str, int]:
    """Return the depths of the tensors of a network whose modules are in the order of its forward pass."""
    types = Counter(map(type, network.modules()))
    found: dict[str, int] = {}
    depth = -1
    for tensors, is_block in _blocks(network, types):
        depth += is_block and any(isinstance(tensor, nn.Parameter) and tensor.ndim > 1 for tensor in tensors.values())
        found |= dict.fromkeys(tensors, max(depth, 0))
    return found


def _blocks(module: nn.Module, types: Mapping[type, int], prefix: str = "") -> Iterator[tuple[dict[str, Tensor], bool]]:
    """Yield the tensors of each block in order, and False with those of what holds blocks, such as a class token."""
    yield {prefix + name: tensor for name, tensor in _named_tensors(module) if "." not in name}, False
    for name, child in module.named_children():
        inner = f"{prefix}{name}."
        if _holds_blocks(child, types):
            yield from _blocks(child, types, inner)
        else:
            yield {inner + name: tensor for name, tensor in _named_tensors(child)}, True


def _holds_blocks(module: nn.Module, types: Mapping[type, int]) -> bool:
    """Return True for a list of modules, and for a trunk: a module with a list of blocks that are all of one type.

    A block, such as one of Inception, may hold such a Sequential, too; but it is not the only module of its type.
    """
    if isinstance(module, _LISTS):
        return True
    lists = _LISTS if types[type(module)] == 1 else (nn.ModuleList,)
    return any(isinstance(child, lists) and _is_uniform(child) for child in module.children())


def _is_uniform(modules: nn.Module) -> bool:
    """Return True if a list has several modules, all of one type, and of modules themselves."""
    inner = list(modules.children())
    return len(inner) > 1 and len(set(map(type, inner))) == 1 and any(True for _ in inner[0].children())
