"""Load weights into a network: all of them, or pretrained ones to start from. Only tensors are unpickled."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from networks.efficientnet_lite import has_names_of_efficientnet_pytorch, rename_to_timm
from networks.timm_networks import TimmModel, convert_published
from runtime.errors import ModelError
from runtime.files import open_regular, visible

StateDict = Mapping[str, Tensor]
ENDINGS = (".pth", ".pt", ".safetensors")
MAX_BYTES = 16 << 30  # a checkpoint may hold an optimizer, too
DEFAULT_BACKBONE = "resnet18"  # of MyModel
_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "backbone.")


def load_state(model: nn.Module, state: StateDict) -> None:
    """Load weights that must fit exactly; raises ModelError that names the difference.

    The prefix `module.` of DataParallel and DistributedDataParallel is removed.
    """
    expected = model.state_dict()
    given = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    names = sorted(expected.keys() ^ given.keys())
    if names:
        some = ", ".join(names[:3])
        raise ModelError(f"the weights are of another architecture ({len(names)} tensors differ, such as {some})")
    wrong = [name for name, tensor in expected.items() if tensor.shape != given[name].shape]
    if wrong:
        found, wanted = given[wrong[0]].shape, expected[wrong[0]].shape
        heads = _head_tensors(model)
        if heads.issuperset(wrong) and found[1:] == wanted[1:]:
            raise ModelError(f"the weights are for another number of classes: {found[0]} outputs, expected {wanted[0]}")
        raise ModelError(
            f"the weights are of another width or image size: {wrong[0]} is {tuple(found)}, expected {tuple(wanted)}"
        )
    _require_numbers(expected, given)
    replace_weights(model, given)


def _head_tensors(model: nn.Module) -> set[str]:
    """Return the names of the tensors of the layers that compute the logits; but for timm's, the last layer."""
    names = [*model.state_dict()]
    timm_models = [(prefix, part) for prefix, part in model.named_modules() if isinstance(part, TimmModel)]
    if not timm_models:
        return {name for name in names if name.rpartition(".")[0] == names[-1].rpartition(".")[0]}
    heads = {".".join(filter(None, (prefix, "backbone", head))) for prefix, part in timm_models for head in part.heads}
    return {name for name in names if name.rpartition(".")[0] in heads}


def is_state_dict(state: object) -> TypeGuard[StateDict]:
    """Return True for tensors by name whose numbers can be copied: dense ones in memory, not quantized."""
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) and _is_plain(value) for name, value in state.items()
    )


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _require_numbers(own: StateDict, given: StateDict, where: str = "") -> None:
    """Raise ModelError for whole or complex numbers in the place of fractions, and for a number that is not finite."""
    suffix = f": {where}" if where else ""
    for name, tensor in given.items():
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise ModelError(
                f"the weights {name!r} are of type {tensor.dtype}, expected {own[name].dtype}; give those that were "
                f"trained, which are not quantized{suffix}"
            )
        if not tensor.isfinite().all():
            raise ModelError(
                f"the weights {name!r} are not finite, expected numbers; give those of a training that succeeded"
                f"{suffix}"
            )


def replace_weights(model: nn.Module, tensors: StateDict) -> None:
    """Load some tensors, whose names and shapes fit, through the network's own state dict.

    MNASNet needs the version that is in it.
    """
    state = model.state_dict()
    state.update(tensors)
    model.load_state_dict(state)


def backbone_of(name: str) -> str:
    """Return torchvision's name of the network that `--model name` is."""
    return DEFAULT_BACKBONE if name == "MyModel" else name


def copy_fitting(model: nn.Module, state: StateDict, name: str, where: str) -> str:
    """Copy every tensor whose name and shape fit, without the prefixes of wrappers; returns a summary.

    A tensor with the right name but another shape is accepted in the layer of the logits only: otherwise half of
    ResNet-50 would be accepted for ResNet-18. That layer then starts at zero, as in BiT and ViT (Kolesnikov et al.,
    2020; Dosovitskiy et al., 2021): timm draws some so large that it takes epochs to unlearn them. Published weights
    may have other names or another image size, see `_converted`.
    """
    own = model.state_dict()
    keys = dict(zip(_unwrapped(own), own, strict=True))  # bare name -> name in this model
    given = _converted(model, _unwrapped(state), name)
    fitting = {keys[key]: given[key] for key in keys if key in given and given[key].shape == own[keys[key]].shape}
    fresh = [key for key in own if key not in fitting]
    heads, bare = _head_tensors(model), {key: bare for bare, key in keys.items()}
    clashes = [key for key in fresh if bare[key] in given and key not in heads]
    if clashes or 2 * len(fitting) < len(own):
        missing = [key for key in fresh if bare[key] not in given]
        difference = _difference(bare[(clashes or missing or fresh)[0]], given, own, keys)
        raise ModelError(
            f"the weights are not of model {name!r}: {len(fitting)} of its {len(own)} tensors fit, {difference}; give "
            f"those of the same model: {where}"
        )
    new_head = [key for key in fresh if key in heads]
    _require_numbers(own, fitting, where)
    replace_weights(model, {**fitting, **{key: torch.zeros_like(own[key]) for key in new_head}})
    unused = len(given.keys() - keys.keys())
    report = f"{len(fitting)} of {len(own)} tensors from {where}"
    for start, names in (("zero", new_head), ("random", [key for key in fresh if key not in heads])):
        report += f"; {start}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}" if names else ""
    return report + (f"; not used: {unused} of the file" if unused else "")


def _difference(bare: str, given: StateDict, own: StateDict, keys: Mapping[str, str]) -> str:
    """Return how a tensor of the network, which does not fit, differs from those that are given."""
    if bare in given:
        return f"{bare} is {tuple(given[bare].shape)}, expected {tuple(own[keys[bare]].shape)}"
    unknown = next((name for name in given if name not in keys), "")
    return f"{bare} is missing" + (f", the first of other names is {unknown}" if unknown else "")


def _unwrapped(state: StateDict) -> dict[str, Tensor]:
    """Return tensors without the prefixes of wrappers, and with the current names of DenseNet's layers, in order.

    The wrappers are those of DataParallel, torch.compile, Lightning and this job, in any order. A prefix that only some
    names have is a part of the network: VOLO has layers called `network`.
    """
    while wrapper := next((prefix for prefix in _WRAPPERS if _all_have(prefix, state)), None):
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    old_name = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {old_name.sub(r"\1\2", name): tensor for name, tensor in state.items()}


def _all_have(prefix: str, state: StateDict) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)


def _converted(model: nn.Module, state: dict[str, Tensor], name: str) -> StateDict:
    """Return published weights with the names and the image size of this network."""
    networks = [part for part in model.modules() if isinstance(part, TimmModel)]
    if not networks:
        return _stretch_positions(model, state)
    if has_names_of_efficientnet_pytorch(state):
        return rename_to_timm(state, networks[0].backbone)
    try:
        return convert_published(networks[0], state, name)
    except (LookupError, RuntimeError, ValueError, AttributeError, TypeError, AssertionError):
        return state  # of another network, so it does not fit, and the message names the tensors


def _stretch_positions(model: nn.Module, state: dict[str, Tensor]) -> StateDict:
    """Interpolate the position embeddings of a vision transformer that was trained at another image size."""
    if "encoder.pos_embedding" not in state:
        return state
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    for part in model.modules():
        if isinstance(part, VisionTransformer):
            state = interpolate_embeddings(part.image_size, part.patch_size, state)
    return state


def find_weights(source: Path, name: str) -> Path:
    """Return the file of weights: `source`, or the only one in it that is not hidden, or the one called `name`."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelError(f"no such file or folder, expected weights ({', '.join(ENDINGS)}): {source}")
    found = [path for path in visible(source) if path.suffix.lower() in ENDINGS and path.is_file()]
    named = [path for path in found if path.stem == name]
    if len(named or found) != 1:
        listed = ", ".join(path.name for path in (named or found)[:4]) or "none"
        raise ModelError(f"expected one file of weights ({', '.join(ENDINGS)}) or {name}.*, found {listed}: {source}")
    return (named or found)[0]


def read_weights(path: Path) -> tuple[StateDict, str]:
    """Read tensors by name, from safetensors or torch.save: a state dict, or one under `state_dict` or `model`.

    Returns them with the sha256 of the file. Raises ModelError for anything else.
    """
    try:
        with open_regular(path, MAX_BYTES) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            if path.suffix.lower() == ".safetensors":
                from safetensors.torch import load

                return load(file.read()), digest
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise errors of many types
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise ModelError(f"cannot be read as weights{reason}, expected {_EXPECTED}: {path}") from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not is_state_dict(state):
        raise ModelError(f"not weights, expected {_EXPECTED}: {path}")
    return state, digest


_EXPECTED = "dense tensors by name and nothing else, as torch.save(model.state_dict(), path) writes them"
