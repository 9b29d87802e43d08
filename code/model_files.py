"""The published model: `model.safetensors` and `model.json`, complete and self-describing, without pickle.

`model.json` has everything a command needs: architecture, classes, preparation, metrics, options, versions and the
sha256 of the weights. The weights are written first, the description last, each completely or not at all; a folder
whose two files do not belong together is rejected. `best.pth` state dicts of the original load, too, as tensors only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from calibration import UnsureThresholds
from data.images import Preparation
from description import DESCRIPTION, FORMAT, Description, build_described, describe_ensemble
from labels import MASKED_FACES
from model import load_state
from model_folder import ARCHIVE, LEGACY, MAX_BYTES, WEIGHTS, find, parse_record, read_parts, sha256
from pretrained import is_state_dict
from runtime.errors import JobError, ModelError, reason_of
from runtime.files import open_regular, replacing
from runtime.version import version

__all__ = ["ARCHIVE", "LEGACY", "WEIGHTS", "find", "load", "publish", "publish_ensemble", "read"]

StateDict = dict[str, Tensor]


def publish(folder: Path, state: StateDict, description: Description) -> None:
    """Write the two files of a model and read them back; raises ModelError for a weight that is not finite.

    After a failure the folder holds the model from before, or one that `load` rejects.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f"the weight {name!r} is not finite, so the model was not published: {folder}")
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    record = {
        "format": FORMAT,
        "version": version(),
        **description.to_dict(),
        "versions": {"torch": torch.__version__},
        "sha256": sha256(weights),
    }
    with replacing(folder / WEIGHTS, "wb") as file:
        file.write(weights)
    with replacing(folder / DESCRIPTION) as file:
        file.write(json.dumps(record, indent=2) + "\n")
    _check(*read_parts(folder), where=str(folder))


def publish_ensemble(
    folder: Path,
    members: Sequence[Path],
    metrics: Mapping[str, float] | None = None,
    unsure_thresholds: UnsureThresholds | None = None,
) -> Description:
    """Write the model whose probabilities are the mean of those of other models, which lie in the folders `members`.

    Each member has its own mean and std, and its own temperature. `metrics` are those of model.json, by default the
    means of the members. Raises ModelError as `load` and `describe_ensemble` do.
    """
    loaded = [load(member) for member in members]
    descriptions = {str(member): description for member, (_, description) in zip(members, loaded, strict=True)}
    description = replace(describe_ensemble(descriptions, metrics), unsure_thresholds=unsure_thresholds)
    state = {
        f"networks.{number}.{name}": tensor
        for number, (model, _) in enumerate(loaded)
        for name, tensor in model.state_dict().items()
    }
    publish(folder, state, description)
    return description


def load(location: Path, legacy: Description | None = None) -> tuple[nn.Module, Description]:
    """Load the model in a folder, its parent, or a model.tar.gz, on the CPU and in evaluation mode.

    `legacy` describes an old best.pth, which has no description. Raises ModelError for anything else.
    """
    source = find(location)
    if source.name == LEGACY:
        description = legacy or Description("BaseModel", "joint", MASKED_FACES, Preparation())
        state = _read_legacy(source)
    else:
        description, state, _ = read(source)
    model = build_described(description, source)
    try:
        load_state(model, state)
    except ModelError as error:
        raise ModelError(f"{error}; train again or give another model: {source}") from None
    return model.eval(), description


def read(source: Path) -> tuple[Description, StateDict, str]:
    """Return the description, the weights and their sha256 in a model folder or a model.tar.gz.

    Raises ModelError if it is no complete model.
    """
    description, weights = read_parts(source)
    return *_check(description, weights, where=str(source)), sha256(weights)


def _check(description: bytes, weights: bytes, *, where: str) -> tuple[Description, StateDict]:
    """Parse both files; their checksum proves that they belong together and that no bit has changed."""
    record = parse_record(description, sha256(weights), where)
    try:
        state = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ModelError(f"{WEIGHTS} cannot be read ({error}): {where}") from None
    if any(not tensor.isfinite().all() for tensor in state.values()):
        raise ModelError(f"{WEIGHTS} holds weights that are not finite: {where}")
    return Description.from_dict(record, where), state


def _read_legacy(path: Path) -> StateDict:
    """Read a state dict as the original saved it; only tensors are unpickled."""
    try:
        with open_regular(path, MAX_BYTES) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except JobError:
        raise
    except Exception as error:  # torch.load raises errors of many types
        raise ModelError(f"not a plain state dict of tensors ({reason_of(error, 100)}): {path}") from None
    if not is_state_dict(state):
        raise ModelError(f"not a plain state dict of tensors, expected what BaseModel.state_dict() gives: {path}")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
