"""The sum of a vector over the parts of a batch, whose bits do not depend on who computed which part.

Additions of floats are not associative, so their order is fixed by a binary tree over the parts: node (level, index)
is the sum over the parts from index * 2**level on, 2**level of them or as many as there are. It is its left half plus
its right half, or its left half alone if no part is in the right one. Workers hold contiguous parts, so each adds up
the largest nodes that lie within its own. Then each receives its own slice of the nodes of all others, completes the
tree for that slice, and sends the result to all. Every node is needed once, and any number of workers can hold parts.

Libraries move bytes, and nothing else adds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")
Node = tuple[int, int]  # level, index
Nodes = dict[Node, Tensor]  # each (length,)


def share(parts: int, size: int, rank: int) -> range:
    """Return the parts of worker `rank` of `size`: contiguous, and as even as torch.tensor_split cuts them."""
    each, rest = divmod(parts, size)
    first = rank * each + min(rank, rest)
    return range(first, first + each + (rank < rest))


def add_node(
    nodes: dict[Node, Value], node: Node, value: Value, parts: int, add: Callable[[Value, Value], Value]
) -> None:
    """Put a node of the tree over `parts` parts among others; two halves of a node become that node, by `add`."""
    level, index = node
    while 1 << level < parts:
        if (index ^ 1) << level < parts:  # it has another half
            if (level, index ^ 1) not in nodes:
                break
            other = nodes.pop((level, index ^ 1))
            value = add(other, value) if index % 2 else add(value, other)
        level, index = level + 1, index // 2
    nodes[level, index] = value


def add_in_place(left: Tensor, right: Tensor) -> Tensor:
    """Return left + right, in the memory of `left`."""
    return left.add_(right)


def nodes_within(own: Iterable[int], parts: int) -> list[Node]:
    """Return the largest nodes of the tree over `parts` parts that lie within contiguous ones, in order."""
    nodes: dict[Node, None] = {}
    for part in own:
        add_node(nodes, (0, part), None, parts, lambda left, right: None)
    return sorted(nodes, key=lambda node: node[1] << node[0])


@dataclass(frozen=True)
class Stage:
    """A group of torch.distributed in which vectors are cut and put together again.

    `members` holds, for each member in the order of its rank, the workers whose parts it has when the stage begins.
    """

    group: Any  # a ProcessGroup, or a backend of one
    rank: int  # own, in the group
    members: Sequence[Sequence[int]]
    is_gloo: bool


class OrderedSum:
    """The sum over the workers of a run; the memory that it needs is kept."""

    def __init__(self, size: int, stages: Sequence[Stage]) -> None:
        """`size` workers exchange in `stages`: one with all of them, or one within each host and one between hosts."""
        self.size, self.stages = size, stages
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def padded(self, length: int) -> int:
        """Return the length that a vector needs, so that it can be cut into equal slices."""
        return -(-length // self.size) * self.size

    def reserve(self, length: int, parts: int, like: Tensor) -> None:
        """Take the memory that a sum of vectors of a padded length needs, so that the sum itself cannot lack it."""
        for place, stage in enumerate(self.stages):
            for turn, senders in enumerate(self._turns(stage, parts)):
                self._memory((place, turn), len(senders) * (length // len(stage.members)), like)
            self._memory((place, "whole"), length, like)
            length //= len(stage.members)

    def __call__(self, nodes: Nodes, parts: int, length: int, like: Tensor) -> Tensor:
        """Return the sum over all parts of vectors, of which this worker has the nodes within its own parts, or none.

        Each vector has the padded `length`, and the type and device of `like`. All workers call this at the same time;
        the result is overwritten by the next call.
        """
        for place, stage in enumerate(self.stages):
            nodes = self._exchange(place, stage, nodes, parts, length, like)
            length //= len(stage.members)
        ((_, total),) = nodes.items()
        for place, stage in reversed(list(enumerate(self.stages))):
            total = self._put_together(place, stage, total)
        return total

    def _exchange(self, place: int, stage: Stage, nodes: Nodes, parts: int, length: int, like: Tensor) -> Nodes:
        """Return the nodes of all members, added up as far as possible, of the slice that belongs to this one."""
        members, piece = len(stage.members), length // len(stage.members)
        held = [self._nodes_of(member, parts) for member in stage.members]
        merged: Nodes = {}
        for turn, senders in enumerate(self._turns(stage, parts)):
            gives = turn < len(held[stage.rank])
            given = nodes[held[stage.rank][turn]] if gives else like[:0]
            arrived = self._memory((place, turn), len(senders) * piece, like)
            takes = [piece * (sender in senders) for sender in range(members)]
            stage.group.alltoall_base(arrived, given, takes, [piece * gives] * members).wait()
            for sender, vector in zip(senders, torch.split(arrived, piece), strict=True):
                add_node(merged, held[sender][turn], vector, parts, add_in_place)
        return merged

    def _put_together(self, place: int, stage: Stage, piece: Tensor) -> Tensor:
        """Return the vector whose slices the members have."""
        members = len(stage.members)
        whole = self._memory((place, "whole"), members * len(piece), piece)
        if not stage.is_gloo:
            stage.group._allgather_base(whole, piece).wait()
            return whole
        slices = torch.split(whole, len(piece))
        slices[stage.rank].copy_(piece)
        for root, part in enumerate(
            slices
        ):  # all_gather of gloo copies through new memory, and takes four times as long
            stage.group.broadcast(part, root).wait()
        return whole

    def _turns(self, stage: Stage, parts: int) -> list[list[int]]:
        """Return for each turn of an exchange the members that send a node."""
        counts = [len(self._nodes_of(member, parts)) for member in stage.members]
        return [[member for member, count in enumerate(counts) if turn < count] for turn in range(max(counts))]

    def _nodes_of(self, member: Sequence[int], parts: int) -> list[Node]:
        return nodes_within([part for worker in member for part in share(parts, self.size, worker)], parts)

    def _memory(self, key: tuple[Any, ...], length: int, like: Tensor) -> Tensor:
        """Return kept memory of a length: new memory of this size costs more than the sum, in page faults."""
        kept = self._kept.get(key)
        if kept is None or len(kept) < length or kept.device != like.device:
            kept = self._kept[key] = like.new_empty(length)
        return kept[:length]
