"""Validation images that are in training, too, and the scores without them.

Looked for once, after the last epoch, in the images that the store has decoded anyway. No result of training depends
on it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.duplicates import components, find_duplicates
from data.image_store import ImageStore
from data.signatures import SIDE, signatures_of
from labelling.labelling import Labelling, labelling_of

Indices = NDArray[np.int64]


def find_straddling(store: ImageStore, train: Indices, val: Indices) -> NDArray[np.bool_]:
    """Return True for each image at `val` that is nearly the same as one at `train`; both are indices of the store."""
    count = len(store.paths)
    used = np.zeros(count, np.bool_)
    used[train] = used[val] = True
    # Different images may look the same in a few pixels; then only files with the same bytes count.
    is_enough = min(store.pixels.shape[1:3]) >= SIDE
    signatures = signatures_of(store.pixels) if is_enough else np.zeros((count, SIDE, SIDE, 3), np.uint8)
    groups = components(find_duplicates(signatures, store.digests.known(), used).indices, count)
    return np.isin(groups[val], groups[train])


def describe_straddling(
    straddling: NDArray[np.bool_], labels: NDArray[Any], probabilities: NDArray[np.float32], labelling: Labelling
) -> list[str]:
    """Return a sentence with the scores of the other validation images if some are `straddling` (n,); else nothing.

    `labels` (n, ...) and `probabilities` (n, classes) are those of all validation images.
    """
    found, others = int(straddling.sum()), ~straddling
    if not found:
        return []
    start = f"{found} of {len(labels)} validation images are nearly the same as training images, see `make audit`"
    if not others.any():
        return [f"{start}; there is no score without them"]
    whole, rest = (_best_scores(labels[of], probabilities[of], labelling) for of in (slice(None), others))
    return [
        f"{start}; without them accuracy is {rest['accuracy']:.4f} instead of {whole['accuracy']:.4f}, "
        f"macro F1 {rest['macro_f1']:.4f} instead of {whole['macro_f1']:.4f}"
    ]


def _best_scores(labels: NDArray[Any], probabilities: NDArray[np.float32], labelling: Labelling) -> dict[str, float]:
    """Return the scores of images with the thresholds that are the best for them."""
    thresholds = labelling.thresholds_of(labels, probabilities)
    return labelling_of(labelling.scheme, thresholds).scores(labels, probabilities)
