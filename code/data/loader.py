"""Batches of the image store, on the device. The batches of an epoch are a function of (seed, epoch) alone.

Only decoding has processes (decode_pool.py). One thread that copies uint8 images from memory, one batch ahead, is
faster than any model. Augmentation happens afterwards, on the device, for the whole batch.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.images import Pixels
from data.resident_pixels import ResidentPixels
from runtime.micro_batches import retry


def derive_seed(*parts: int | str) -> int:
    """Return a seed below 2**63 for a random draw that `parts` name, such as (seed, epoch, step, "dropout").

    With a seed for each draw no generator has a state to save, so training resumes at any step.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Create a CPU generator for the draw that `parts` name."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class Store(Protocol):
    """What a loader needs of an image store; see ImageStore."""

    @property
    def pixels(self) -> Pixels: ...

    def prioritize(self, indices: NDArray[np.int64], /) -> None: ...

    def wait(self, indices: NDArray[np.int64] | None = None, /) -> None: ...

    @property
    def resident(self) -> ResidentPixels: ...

    def move_to_gpu(self, device: torch.device, /) -> None: ...


@dataclass(frozen=True)
class Batch:
    """One batch on the device: uint8 pixels (rows, 3, height, width), labels (batch,), indices in the store (batch,).

    Labels are 0 and 1, (batch, classes), if images have several.
    `weights` (batch,) multiply the losses of the images, if they have any. The indices stay on the CPU. Where other
    workers compute a part of the batch, the pixels are those of some rows, from `first` on.
    """

    step: int
    pixels: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    first: int = 0
    load: Callable[[range], Tensor] | None = None  # pixels of any rows, from the store
    weights: Tensor | None = None

    def rows(self, wanted: range) -> Tensor:
        """Return a copy of the pixels of some rows, (rows, 3, height, width)."""
        if self.first <= wanted.start and wanted.stop <= self.first + len(self.pixels):
            return self.pixels[wanted.start - self.first : wanted.stop - self.first].clone()
        assert self.load, "a batch that is not whole can load"
        return self.load(wanted)


_Copied = tuple[Batch, torch.cuda.Event | None]  # the event: the copy to the GPU is done
_Load = Callable[[], _Copied]
_PINNED_BYTES = 32 << 20  # copied to a GPU at once, so that large batches do not pin much memory of the host


class Loader:
    """Batches of chosen images of a store, in order or in a new random order every epoch."""

    def __init__(
        self,
        store: Store,
        labels: NDArray[Any],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        order: str = "sequential",
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Load the images of `store` at `indices`; `labels`, and `weights` if any, are those of all its images.

        `order` is
        - sequential: every image once; the last batch may be smaller
        - shuffle: in random order; the last batch is dropped if it is smaller, because of batch norm, unless it is the
          only one
        - balanced: as many images as `indices`, drawn with replacement so that all classes are equally likely
        """
        self.store, self.labels, self.indices = store, labels, indices
        self.batch_size, self.device, self.seed, self.order = batch_size, device, seed, order
        self.weights = None if weights is None else weights.astype(np.float32)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._has_ended = False  # an epoch, in this process
        self.own_rows: Callable[[int], range] = range  # those that are loaded, of a batch of so many images

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (rest > 0) if self.order == "sequential" or not full else full

    @property
    def samples_per_epoch(self) -> int:
        return min(len(self) * self.batch_size, len(self.indices))

    @property
    def batch_sizes(self) -> list[int]:
        """Return the number of images of each batch of an epoch."""
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [min(self.batch_size, len(self.indices) - start) for start in starts]

    def labels_of(self, epoch: int) -> NDArray[Any]:
        """Return the labels of all batches of an epoch, in order, (images,)."""
        return self.labels[self._ordered_indices(epoch)[: self.samples_per_epoch]]

    def weights_of(self, epoch: int) -> NDArray[np.float32] | None:
        """Return the weights of all batches of an epoch, in order, (images,), or None if there are none."""
        if self.weights is None:
            return None
        return self.weights[self._ordered_indices(epoch)[: self.samples_per_epoch]]

    def epoch(self, epoch: int, start_step: int = 0, turn: tuple[int, int] = (0, 1)) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from a step on; skipping costs nothing.

        With `turn` (k, n) these are every n-th batch from number k on.

        In the first epoch the store may still be decoding: it decodes in the order of the batches, and the epoch ends
        when all images are decoded. Raises DataError if the store does, so a bad image never goes unnoticed.

        From its second epoch in this process on, random batches come from a copy of the store on the GPU if it has room
        beside everything that the first epoch took. If the GPU has no memory for a batch, this copy is given back.
        Raises DeviceError if there is still none.
        """
        order = self._ordered_indices(epoch)
        self.store.prioritize(order[start_step * self.batch_size :])
        if self._has_ended and self.order != "sequential":
            self.store.move_to_gpu(self.device)
        if self._copies:
            self._copies.wait_stream(torch.cuda.current_stream(self.device))  # which may still be moving the store
        with ThreadPoolExecutor(1, "loader") as ahead:
            pending: deque[tuple[Future[_Copied], _Load]] = deque()
            for step in range(start_step + turn[0], len(self), turn[1]):
                indices = order[step * self.batch_size : (step + 1) * self.batch_size]
                own = self.own_rows(len(indices))
                room = retry(partial(self._make_room, len(own), len(indices)), self.store.resident.release)
                load = partial(self._load, step, indices, own, *room)
                pending.append((ahead.submit(load), load))
                if len(pending) > 1:
                    yield self._arrived(*pending.popleft())
            if pending:
                yield self._arrived(*pending.popleft())
        self.store.wait()
        self._has_ended = self._has_ended or start_step < len(self)

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

    def _make_room(self, rows: int, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return memory on the device for a batch: pixels (rows, height, width, 3), labels and weights (size,).

        It is taken between two steps, not by the thread that copies: whether a step has enough memory would depend on
        which of them is faster.
        """
        with torch.cuda.stream(self._copies), torch.inference_mode(False):  # the caller may be in inference mode
            like = torch.from_numpy(self.labels[:0].copy())
            labels = torch.empty((size, *like.shape[1:]), dtype=like.dtype, device=self.device)
            weights = None if self.weights is None else torch.empty(size, device=self.device)
            return self._room_for(rows), labels, weights

    def _room_for(self, rows: int) -> Tensor:
        return torch.empty((rows, *self.store.pixels.shape[1:]), dtype=torch.uint8, device=self.device)

    def _load(
        self,
        step: int,
        indices: NDArray[np.int64],
        own: range,
        pixels: Tensor,
        labels: Tensor,
        weights: Tensor | None,
    ) -> _Copied:
        """Copy a batch to its memory; on a GPU, in a separate stream, so that it overlaps with the computation."""
        self.store.wait(indices[own.start : own.stop])
        with torch.cuda.stream(self._copies):  # does nothing without a GPU
            self._copy(indices[own.start : own.stop], pixels)
            _copy_to(labels, self.labels[indices])
            if weights is not None and self.weights is not None:
                _copy_to(weights, self.weights[indices])
            load = partial(self._load_rows, indices)
            batch = Batch(step, pixels.permute(0, 3, 1, 2), labels, indices, own.start, load, weights)
            return batch, self._copies.record_event() if self._copies else None  # type: ignore[no-untyped-call]

    def _load_rows(self, indices: NDArray[np.int64], rows: range) -> Tensor:
        """Return the pixels of some rows of a batch, (rows, 3, height, width), when they are needed at once."""
        self.store.wait(indices[rows.start : rows.stop])
        pixels = self._room_for(len(rows))
        self._copy(indices[rows.start : rows.stop], pixels)
        return pixels.permute(0, 3, 1, 2)

    def _copy(self, indices: NDArray[np.int64], pixels: Tensor) -> None:
        """Copy images of the store to `pixels` (batch, height, width, 3) on the device."""
        if not self.store.resident.take(indices, pixels):
            self._gather(indices, pixels)

    def _gather(self, indices: NDArray[np.int64], batch: Tensor) -> None:
        """Copy images from the host to `batch` (batch, height, width, 3) on the device."""
        pixels = self.store.pixels
        if self._copies is None:
            _take(pixels, indices, batch)
            return
        most = max(1, _PINNED_BYTES // max(1, pixels[:1].nbytes))
        for piece, part in zip(
            torch.split(batch, most), np.split(indices, range(most, len(indices), most)), strict=True
        ):
            pinned = torch.empty(piece.shape, dtype=torch.uint8, pin_memory=True)  # torch reuses it once it is copied
            piece.copy_(_take(pixels, part, pinned), non_blocking=True)

    def _arrived(self, ahead: Future[_Copied], load: _Load) -> Batch:
        """Let the current stream wait for the copy, and keep the memory until that stream has used it.

        If the GPU had no memory for it while a step was at work, it is loaded now, between two steps.
        """
        batch, copied = retry(ahead.result, self.store.resident.release, load)
        if copied:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            for tensor in (batch.pixels, batch.labels, batch.weights):
                if tensor is not None:
                    tensor.record_stream(stream)
        return batch


def _copy_to(target: Tensor, values: NDArray[Any]) -> None:
    """Copy values to a tensor on the device, of a GPU without waiting."""
    chosen = torch.from_numpy(values)
    target.copy_(chosen.pin_memory() if target.is_cuda else chosen, non_blocking=True)


def _take(pixels: Pixels, indices: NDArray[np.int64], target: Tensor) -> Tensor:
    """Copy the images at these indices into a tensor on the host, and return it."""
    np.take(pixels, indices, axis=0, out=target.numpy(), mode="clip")  # the other modes copy twice
    return target
