"""What a step changes, changed exactly once: also when the device runs out of memory and the step starts over."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _NormBase

from runtime.memory import Release, is_out_of_memory, no_memory
from runtime.micro_batches import retry


class RunningStatistics:
    """The running statistics of batch norm, which every forward pass in training changes."""

    def __init__(self, model: nn.Module, frozen: Collection[str] = ()) -> None:
        """Find the buffers of batch norm in a network that is already on its device, without those named `frozen`."""
        norms = {name: module for name, module in model.named_modules() if isinstance(module, _NormBase)}
        buffers = {f"{name}.{key}": found for name, norm in norms.items() for key, found in norm.named_buffers()}
        self.live = [buffer for name, buffer in buffers.items() if name.removeprefix(".") not in frozen]
        self.saved = [torch.empty_like(buffer) for buffer in self.live]

    def save(self) -> None:
        """Remember the statistics as they are now."""
        _copy(self.saved, self.live)

    def restore(self) -> None:
        """Put the statistics back that were saved last."""
        _copy(self.live, self.saved)


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for is_float in (True, False):  # in one call, a GPU copies tensors of several types one by one
        pairs = [pair for pair in zip(targets, sources, strict=True) if pair[0].is_floating_point() == is_float]
        if pairs:
            torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])


def step_once(scaler: GradScaler, optimizer: torch.optim.Optimizer, release: Release) -> None:
    """Take a step of the optimizer; if the device runs out of memory before it changed anything, take it once more.

    That is so where the first step creates the state of the optimizer, and where temporary tensors come first. Raises
    DeviceError if a part of the step is already done, or if memory runs out the second time.
    """
    before = _Progress(optimizer)

    def first() -> None:
        try:
            scaler.step(optimizer)
        except RuntimeError as error:
            if is_out_of_memory(error) and before.is_over():
                raise no_memory(error) from None
            raise

    def again() -> None:
        before.clear()
        scaler.step(optimizer)

    retry(first, release, again)


class _Progress:
    """An optimizer before a step: whether the step has changed anything since, and what it left behind.

    An optimizer changes one group of parameters after the other, and in a group the parameters in their order or all at
    once (foreach, fused). So the first parameter of each group and its state tell whether any has changed: a change in
    place counts up the version of a tensor, except in fused kernels. These are told by a group that got a state: those
    before it are done then. Once there is a state, fused kernels need no memory; blocks that thaw get theirs late.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._states = len(optimizer.state)
        self._watched = [(tensor, tensor._version) for tensor in _first_tensors(optimizer)]

    def is_over(self) -> bool:
        """Return True if a parameter or its state has changed since."""
        new = set(map(id, self._new_states()))
        groups = [group["params"] for group in self.optimizer.param_groups]
        groups = [params for params in groups if any(parameter.grad is not None for parameter in params)]
        begun = any(new & set(map(id, params)) for params in groups[1:])
        return begun or any(tensor._version != version for tensor, version in self._watched)

    def _new_states(self) -> list[Tensor]:
        """Return the parameters that have got a state since."""
        return list(self.optimizer.state)[self._states :]

    def clear(self) -> None:
        """Remove what a failed step left behind: new state, perhaps without some tensors, and the loss scale."""
        for parameter in self._new_states():
            del self.optimizer.state[parameter]
        for name in ("grad_scale", "found_inf"):  # of GradScaler.step, which would multiply the scale once more
            vars(self.optimizer).pop(name, None)


def _first_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Yield the first parameter with a gradient of each group, and the tensors of its state."""
    for group in optimizer.param_groups:
        first = next((parameter for parameter in group["params"] if parameter.grad is not None), None)
        if first is not None:
            yield first
            yield from (value for value in optimizer.state.get(first, {}).values() if isinstance(value, Tensor))
