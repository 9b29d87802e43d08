"""Batches from the store, by index, on the device. What an epoch holds is a function of (seed, epoch) alone.

No worker processes and no queue: gathering uint8 rows from memory is far faster than any model consumes them, and
augmentation happens afterwards on the device, for the whole batch.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from images import Pixels


def derive_seed(*parts: int | str) -> int:
    """A seed below 2**63 from what names a draw, such as (seed, epoch, step, "dropout"): nothing random keeps state."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator for the draw that `parts` name."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@dataclass(frozen=True)
class Batch:
    """One batch on the device: uint8 pixels (batch, 3, height, width), labels (batch,), rows of the store (batch,)."""

    step: int
    pixels: Tensor
    labels: Tensor
    rows: NDArray[np.int64]


class Loader:
    """Batches of chosen rows of a store, in order or in a new random order every epoch."""

    def __init__(
        self,
        pixels: Pixels,
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        *,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        order: str = "sequential",
    ) -> None:
        """`pixels` and `labels` are by row of the store; `rows` says which belong to this loader.

        `order` is sequential (every row once, the last batch may be smaller), shuffle (the last smaller batch is left
        out, as it would upset batch norm, unless it is the only one), or balanced (drawn with replacement so that all
        classes come equally often, as many as there are rows).
        """
        self.pixels, self.labels, self.rows = pixels, labels, rows
        self.batch_size, self.device, self.seed, self.order = batch_size, device, seed, order

    def __len__(self) -> int:
        """Steps per epoch."""
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0) if self.order == "sequential" or not full else full

    @property
    def samples_per_epoch(self) -> int:
        return min(len(self) * self.batch_size, len(self.rows))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on; skipping costs nothing."""
        order = self._ordered_rows(epoch)
        for step in range(start_step, len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield Batch(step, self._gather(rows), self._to_device(torch.from_numpy(self.labels[rows])), rows)

    def _ordered_rows(self, epoch: int) -> NDArray[np.int64]:
        if self.order == "sequential":
            return self.rows
        draw = generator(self.seed, epoch, "order")
        if self.order == "shuffle":
            return self.rows.take(torch.randperm(len(self.rows), generator=draw).numpy())
        labels = torch.from_numpy(self.labels[self.rows])
        weights = 1.0 / labels.bincount()[labels]
        return self.rows.take(torch.multinomial(weights, len(self.rows), replacement=True, generator=draw).numpy())

    def _gather(self, rows: NDArray[np.int64]) -> Tensor:
        """Copy rows of the store to the device: (batch, 3, height, width), channels last in memory."""
        return self._to_device(torch.from_numpy(self.pixels.take(rows, axis=0))).permute(0, 3, 1, 2)

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
