"""What computes a network: one interface, in terms of numpy, for torch, onnxruntime and OpenVINO. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels

if TYPE_CHECKING:
    from description import Description

ENGINES = ("torch", "onnxruntime", "openvino")


class Engine(Protocol):
    """A network with everything between prepared images and probabilities."""

    @property
    def device(self) -> str:
        """Return the kind of device that it computes on: cpu or cuda."""

    def batch_sizes(self, most: int) -> tuple[int, ...]:
        """Return the sizes of batches that a server computes once before it is ready, for batches of 1 to `most`."""

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared uint8 images (batch, height, width, 3)."""


@dataclass(frozen=True)
class Loaded:
    """An engine, what its network is, and a digest of both."""

    engine: Engine
    description: "Description"
    digest: str


def ends(most: int) -> tuple[int, ...]:
    """Return the smallest and the largest size of a batch."""
    return tuple(sorted({1, most}))
