"""The state of an optimizer in a checkpoint: what a resumed run takes from it, and what it has to fit."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, optim


def load_optimizer(optimizer: optim.Optimizer, state: Mapping[str, Any], name: str) -> None:
    """Load the state of an optimizer of the same kind, but keep the options of this run, except the learning rate.

    `name` is the class of the optimizer that the state is of; that of another class is ignored, and so is one whose
    parameters are in other groups, because only one of both has a layer decay. The learning rate of the last step is no
    option: it belongs into the history if the epoch is not complete yet. Raises ValueError for buffers that do not fit
    the parameters.
    """
    ours, theirs = optimizer.state_dict()["param_groups"], state["param_groups"]
    has_buffers = [bool(groups[0].get("momentum")) for groups in (ours, theirs)]  # no momentum, no buffer for it
    sizes = [[len(group["params"]) for group in groups] for groups in (ours, theirs)]
    if name == type(optimizer).__name__ and has_buffers[0] == has_buffers[1] and sizes[0] == sizes[1]:
        taken = [{key: group[key] for key in ("params", "lr")} for group in theirs]
        groups = [group | other for group, other in zip(ours, taken, strict=True)]
        _check_buffers(optimizer, state["state"])
        optimizer.load_state_dict({**state, "param_groups": groups})


def _check_buffers(optimizer: optim.Optimizer, buffers: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise ValueError if a buffer of the optimizer has neither one number nor the shape of its parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, tensors in buffers.items():
        if not 0 <= index < len(parameters):
            raise ValueError(f"the optimizer has a buffer of parameter {index}")
        for name, tensor in tensors.items():
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.shape != parameters[index].shape:
                raise ValueError(f"buffer {name!r} of the optimizer has another shape than its parameter")
