"""What leaves the parts of a batch: one vector for each, which is summed over all parts, and what becomes of the sum.

A vector holds the gradients in the order of their memory, the running statistics of batch norm, the loss, and one
place for the predicted class of each image of the batch (one for each class, if images have several labels). Each part
starts from the statistics before the step, so the mean of what the parts make of them is one update with the mean of
their batches. Counters in the statistics are sent as what was added to them.
"""

import math

import torch
from torch import Tensor, nn

from training.once import RunningStatistics
from training.ordered_sum import Nodes, add_node
from training.workers import Workers


class PartSum:
    """The sum over the parts of one batch after the other; the memory of its vectors is kept."""

    def __init__(self, model: nn.Module, statistics: RunningStatistics, workers: Workers) -> None:
        self.workers = workers
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        pairs = list(zip(statistics.live, statistics.saved, strict=True))
        self._statistics = [live for live, _ in pairs if live.is_floating_point()]
        self._counters = [(live, saved) for live, saved in pairs if not live.is_floating_point()]
        self._sizes = [tensor.numel() for tensor in self.parameters + self._statistics]
        self._used: list[bool] | None = None  # whether a parameter has a gradient: that is so for the whole run
        self._vectors: list[Tensor] = []
        self._free: list[Tensor] = []
        self._nodes: Nodes = {}
        self._length = 0
        self._shape: tuple[int, ...] = (0,)
        self._parts = 1

    @property
    def _head(self) -> int:
        """Return the length of a vector without the predicted classes."""
        return sum(self._sizes) + len(self._counters) + 1

    @property
    def _like(self) -> Tensor:
        return self.parameters[0].detach().new_empty(0, dtype=torch.float32)

    def begin(self, shape: tuple[int, ...], parts: int) -> None:
        """Begin a batch in `parts` parts, whose predictions have `shape`; forget the one before."""
        self._shape, self._parts, self._nodes = shape, parts, {}
        length = self.workers.padded(self._head + math.prod(shape))
        if length != self._length:
            self._length, self._vectors = length, []
        self._free = list(self._vectors)
        self.workers.reserve(length, parts, self._like)

    @torch.no_grad()
    def add(self, part: int, loss: Tensor, predicted: Tensor, rows: slice) -> None:
        """Add a part: the gradients and statistics as they are, its loss (), and the predictions of its images."""
        if not self._free:
            self._free.append(self._like.new_zeros(self._length))
            self._vectors.append(self._free[-1])
        vector = self._free.pop()
        pieces = [_flat_gradient(parameter) for parameter in self.parameters]
        pieces += [tensor.reshape(-1) for tensor in self._statistics]
        pieces += [(live - saved).float().reshape(1) for live, saved in self._counters]
        torch.cat([*pieces, loss.float().reshape(1)], out=vector[: self._head])
        vector[self._head :] = 0
        self._predictions(vector)[rows] = predicted
        add_node(self._nodes, (0, part), vector, self._parts, self._add)

    @torch.no_grad()
    def finish(self) -> tuple[Tensor, Tensor]:
        """Set gradients and statistics to those of the whole batch; returns its loss () and its predictions.

        The gradients are valid until the next batch begins.
        """
        if self._used is None:
            self._used = self.workers.any([parameter.grad is not None for parameter in self.parameters])
        total = self.workers.sum(self._nodes, self._parts, self._length, self._like)
        pieces = total[: sum(self._sizes)].split(self._sizes)  # type: ignore[no-untyped-call]
        for parameter, used, piece in zip(self.parameters, self._used, pieces, strict=False):
            same = piece.as_strided(parameter.shape, parameter.stride())
            parameter.grad = same if used else None
        for tensor, piece in zip(self._statistics, pieces[len(self.parameters) :], strict=True):
            tensor.copy_(piece.view(tensor.shape)).div_(self._parts)
        place = sum(self._sizes)
        for live, saved in self._counters:
            live.copy_(saved + (total[place] / self._parts).round().to(live.dtype))
            place += 1
        return total[place].clone(), self._predictions(total).to(torch.int64)

    def _predictions(self, vector: Tensor) -> Tensor:
        """Return the places of the predictions in a vector, in their shape."""
        return vector[self._head : self._head + math.prod(self._shape)].view(self._shape)

    def _add(self, left: Tensor, right: Tensor) -> Tensor:
        self._free.append(right)
        return left.add_(right)


def _flat_gradient(parameter: Tensor) -> Tensor:
    """Return the gradient in the order of the parameter's memory, (size,); zeros if there is none."""
    gradient = parameter.grad
    if gradient is None:
        gradient = torch.zeros_like(parameter)
    elif gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter).copy_(gradient)
    return gradient.as_strided((gradient.numel(),), (1,), gradient.storage_offset())
