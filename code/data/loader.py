"""Batches from the store, by index, on the device. What an epoch holds is a function of (seed, epoch) alone.

No worker processes: gathering uint8 rows from memory is far faster than any model consumes them, so one thread, one
batch ahead, is enough. Augmentation happens afterwards on the device, for the whole batch.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.image_store import ImageStore
from runtime.devices import send


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
    indices: NDArray[np.int64]


_Copied = tuple[Batch, torch.cuda.Event | None]  # and when it has arrived on the GPU


class Loader:
    """Batches of chosen rows of a store, in order or in a new random order every epoch."""

    def __init__(
        self,
        store: ImageStore,
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        order: str = "sequential",
    ) -> None:
        """`labels` are by row of the store; `rows` says which belong to this loader.

        `order` is sequential (every row once, the last batch may be smaller), shuffle (the last smaller batch is left
        out, as it would upset batch norm, unless it is the only one), or balanced (drawn with replacement so that all
        classes come equally often, as many as there are rows).
        """
        self.store, self.labels, self.indices = store, labels, indices
        self.batch_size, self.device, self.seed, self.order = batch_size, device, seed, order
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Steps per epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (rest > 0) if self.order == "sequential" or not full else full

    @property
    def samples_per_epoch(self) -> int:
        return min(len(self) * self.batch_size, len(self.indices))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on; skipping costs nothing.

        In the first epoch the store may still be filling: its rows are asked for in the order of the batches, and the
        epoch ends when all images are there, so that one that cannot be used never goes unnoticed.
        """
        order = self._ordered_indices(epoch)
        self.store.prefer(order[start_step * self.batch_size :])
        resident = self.store.on_gpu(self.device)
        if self._copies:
            self._copies.wait_stream(torch.cuda.current_stream(self.device))  # which may be filling `resident`
        with ThreadPoolExecutor(1, "loader") as ahead:
            coming: deque[Future[_Copied]] = deque()
            for step in range(start_step, len(self)):
                indices = order[step * self.batch_size : (step + 1) * self.batch_size]
                coming.append(ahead.submit(self._load, step, indices, resident))
                if len(coming) > 1:
                    yield self._arrived(*coming.popleft().result())
            if coming:
                yield self._arrived(*coming.popleft().result())
        self.store.wait()

    def _ordered_indices(self, epoch: int) -> NDArray[np.int64]:
        if self.order == "sequential":
            return self.indices
        draw = generator(self.seed, epoch, "order")
        if self.order == "shuffle":
            return self.indices.take(torch.randperm(len(self.indices), generator=draw).numpy())
        labels = torch.from_numpy(self.labels[self.indices])
        weights = 1.0 / labels.bincount()[labels]
        return self.indices.take(
            torch.multinomial(weights, len(self.indices), replacement=True, generator=draw).numpy()
        )

    def _load(self, step: int, indices: NDArray[np.int64], resident: Tensor | None) -> _Copied:
        """Bring a batch to the device; on a GPU on a stream of its own, so that copying and computing overlap."""
        self.store.wait(indices)
        with torch.cuda.stream(self._copies):  # nothing without a GPU
            if resident is None:
                pixels = send(self._gather(indices), self.device)
            else:
                pixels = resident.index_select(0, send(torch.from_numpy(indices), self.device))
            labels = send(torch.from_numpy(self.labels[indices]), self.device)
            batch = Batch(step, pixels.permute(0, 3, 1, 2), labels, indices)
            return batch, self._copies.record_event() if self._copies else None  # type: ignore[no-untyped-call]

    def _gather(self, indices: NDArray[np.int64]) -> Tensor:
        """Rows of the store, (batch, height, width, 3); in pinned memory for a GPU, which torch uses over again."""
        pixels = self.store.pixels
        batch = torch.empty((len(indices), *pixels.shape[1:]), dtype=torch.uint8, pin_memory=self._copies is not None)
        np.take(pixels, indices, axis=0, out=batch.numpy(), mode="clip")  # the other modes copy once more
        return batch

    def _arrived(self, batch: Batch, copied: torch.cuda.Event | None) -> Batch:
        """Have what the device does next wait for the copies, and keep their memory until that is done."""
        if copied:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            for tensor in (batch.pixels, batch.labels):
                tensor.record_stream(stream)
        return batch
