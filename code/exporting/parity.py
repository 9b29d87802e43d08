"""The comparison of an engine with torch, before a model.onnx is published."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.images import Pixels
from runtime.errors import ModelError

BATCHES = (1, 2, 33)
MOST = 1e-5  # difference of a probability

Probabilities = Callable[[Pixels], NDArray[np.float32]]


def largest_differences(torch: Probabilities, engine: Probabilities, images: Pixels) -> dict[int, float]:
    """Return the largest difference of a probability for each size of a batch, NaN where one is not a number.

    `images` (count, height, width, 3) are prepared; a batch holds them in turn, and one of random pixels.
    """
    noise = np.random.default_rng(0).integers(0, 256, (1, *images.shape[1:]), dtype=np.uint8)
    pool = np.concatenate([images, noise])
    found = {}
    for size in BATCHES:
        batch = np.ascontiguousarray(np.resize(pool, (size, *images.shape[1:])))
        found[size] = float(np.abs(torch(batch) - engine(batch)).max())
    return found


def check_parity(differences: dict[int, float], most: float = MOST) -> None:
    """Raise ModelError with the numbers if a difference is above `most`."""
    if not all(difference <= most for difference in differences.values()):
        shown = ", ".join(f"{difference:.1e} at batch {size}" for size, difference in differences.items())
        raise ModelError(
            f"onnxruntime and torch give different probabilities ({shown}; at most {most:.0e} is allowed),"
            " so nothing was exported"
        )
