"""Load weights into a network: all of them, or pretrained ones to start from. Only tensors are unpickled."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from runtime.errors import ModelError
from runtime.files import open_regular, read_regular

StateDict = Mapping[str, Tensor]
ENDINGS = (".pth", ".pt", ".safetensors")
MAX_BYTES = 16 << 30  # a checkpoint may hold an optimizer, too
DEFAULT_BACKBONE = "resnet18"  # of MyModel


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
        if all(_is_head(name, expected) for name in wrong) and found[1:] == wanted[1:]:
            raise ModelError(f"the weights are for another number of classes: {found[0]} outputs, expected {wanted[0]}")
        raise ModelError(
            f"the weights are of another width or image size: {wrong[0]} is {tuple(found)}, expected {tuple(wanted)}"
        )
    _copy(model, given)


def _is_head(name: str, state: StateDict) -> bool:
    """Return whether a tensor belongs to the last layer, which computes the logits in every network here."""
    return name.rpartition(".")[0] == next(reversed([*state])).rpartition(".")[0]


def _copy(model: nn.Module, tensors: StateDict) -> None:
    """Load some tensors through the network's own state dict: MNASNet needs the version that is in it."""
    state = model.state_dict()
    state.update(tensors)
    model.load_state_dict(state)


def load_pretrained(model: nn.Module, source: Path, name: str) -> str:
    """Start from the weights in a file, or in a folder with one file (or one called `name`); returns a summary.

    The last layer may differ and then stays random. Raises ModelError if the weights are not of the model `name`.
    """
    return _copy_fitting(model, _read_weights(_find_weights(source, name)), name, str(source))


def download_pretrained(model: nn.Module, name: str) -> str:
    """Start from torchvision's weights, in its cache or downloaded; raises ModelError if that fails."""
    import torchvision

    backbone = DEFAULT_BACKBONE if name == "MyModel" else name
    if backbone not in torchvision.models.list_models(module=torchvision.models):
        raise ModelError(f"torchvision has no weights for {name!r}; give a file with --pretrained FILE")
    weights = torchvision.models.get_model_weights(backbone)["DEFAULT"]
    try:
        state = weights.get_state_dict(check_hash=True, progress=False, weights_only=True)
    except Exception as error:  # urllib, the hash check and torch.load raise errors of many types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"the weights of {name!r} cannot be downloaded ({reason}); give them as the `pretrained` channel instead"
        ) from None
    return _copy_fitting(model, state, name, f"torchvision's {backbone}")


def _copy_fitting(model: nn.Module, state: StateDict, name: str, where: str) -> str:
    """Copy every tensor whose name and shape fit, without the prefixes of wrappers; returns a summary.

    A tensor with the right name but another shape is accepted in the last layer only: otherwise half of ResNet-50 would
    be accepted for ResNet-18.
    """
    own = model.state_dict()
    keys = {_bare(key): key for key in own}  # bare name -> name in this model
    given = _stretch_positions(model, {_bare(key): tensor for key, tensor in state.items()})
    fitting = {keys[key]: given[key] for key in keys if key in given and given[key].shape == own[keys[key]].shape}
    fresh = [key for key in own if key not in fitting]
    clashes = [key for key in fresh if _bare(key) in given and not _is_head(key, own)]
    if clashes or 2 * len(fitting) < len(own):
        raise ModelError(
            f"the weights are not of model {name!r}: {len(fitting)} of its {len(own)} tensors fit, the first is"
            f" {next(iter(given), 'missing')}, expected {next(iter(keys))}; give those of the same model: {where}"
        )
    _copy(model, fitting)
    unused = len(given.keys() - keys.keys())
    report = f"{len(fitting)} of {len(own)} tensors from {where}"
    report += f"; random: {', '.join(fresh[:4])}{' ...' if len(fresh) > 4 else ''}" if fresh else ""
    return report + (f"; not used: {unused} of the file" if unused else "")


def _bare(name: str) -> str:
    """Return a tensor's name without the prefixes of wrappers, and with the current names of DenseNet's layers."""
    for wrapper in ("module.", "network.", "backbone."):
        name = name.removeprefix(wrapper)
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


def _stretch_positions(model: nn.Module, state: dict[str, Tensor]) -> StateDict:
    """Interpolate the position embeddings of a vision transformer that was trained at another image size."""
    if "encoder.pos_embedding" not in state:
        return state
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    for part in model.modules():
        if isinstance(part, VisionTransformer):
            state = interpolate_embeddings(part.image_size, part.patch_size, state)
    return state


def _find_weights(source: Path, name: str) -> Path:
    """Return the file of weights: `source`, or the only one in it, or the one called `name`."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelError(f"no such file or folder, expected weights ({', '.join(ENDINGS)}): {source}")
    found = [path for path in sorted(source.iterdir()) if path.suffix in ENDINGS]
    named = [path for path in found if path.stem == name]
    if len(named or found) != 1:
        listed = ", ".join(path.name for path in (named or found)[:4]) or "none"
        raise ModelError(f"expected one file of weights ({', '.join(ENDINGS)}) or {name}.*, found {listed}: {source}")
    return (named or found)[0]


def _read_weights(path: Path) -> StateDict:
    """Read tensors by name, from safetensors or torch.save: a state dict, or one under `state_dict` or `model`."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(read_regular(path, MAX_BYTES))
        with open_regular(path, MAX_BYTES) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load and safetensors raise errors of many types
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise ModelError(f"cannot be read as weights{reason}, expected {_EXPECTED}: {path}") from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"not weights, expected {_EXPECTED}: {path}")
    return state


_EXPECTED = "tensors by name and nothing else, as torch.save(model.state_dict(), path) writes them"
