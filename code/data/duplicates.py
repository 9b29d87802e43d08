"""Duplicates among images: the same file, the same image saved again or resized, and mirrored images. No torch.

All pairs are never compared. Each image is compared with its neighbours in a few sorted orders of its hash
(signatures.py), each by other bits first, so that two nearly equal images are neighbours in one of them although some
bits differ: a "forest" of sorted hashes (Bawa, Condie and Ganesan, LSH Forest, 2005). The work grows with the number of
images, but for sorting. Neighbours are duplicates if their signatures differ by little, everywhere in the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.digests import DigestArray
from data.images import Pixels
from data.signatures import SIDE, Floats, chunks, coefficients_of, mirrored

Indices = NDArray[np.int64]

ORDERS, NEIGHBOURS = 12, 6
CANDIDATES_PER_IMAGE = 2 * ORDERS * NEIGHBOURS  # at most; images and mirrored images are in one order
MOST_BITS = 14  # in which the hashes of duplicates may differ, of 64; a re-encoded image differs in 4 at most
# Grey levels by which the signatures of duplicates may differ: the root of the mean square, and the mean of any block
# of 4 x 4 pixels. Measured on photographs: saved at quality 30 or resized to 0.3 they differ by 2.2 and 6 at most,
# two images of one person with other masks by 7.6 and 12 at least.
MOST_LEVELS, MOST_BLOCK_LEVELS = 4.0, 9.0
BLANK_LEVELS = 4.0  # standard deviation below which an image shows nothing
_BLOCK = 4
_CHUNK = 4096  # pairs


@dataclass(frozen=True)
class Pairs:
    """Pairs of duplicates: indices (pairs, 2), the smaller first, the distance of each in grey levels, and its kind."""

    indices: Indices
    distances: Floats
    are_exact: NDArray[np.bool_]  # the same bytes
    are_mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, chosen: Indices) -> "Pairs":
        """Return some of the pairs, in the order of `chosen`."""
        return Pairs(self.indices[chosen], self.distances[chosen], self.are_exact[chosen], self.are_mirrored[chosen])


def find_duplicates(signatures: Pixels, digests: DigestArray, usable: NDArray[np.bool_]) -> Pairs:
    """Return the pairs of duplicates among images with signatures (images, 24, 24, 3) and digests (images, 32).

    Of many copies of one image not every pair is returned, but the pairs connect all of them. Only images that are
    `usable` (images,) are compared; blank images are duplicates only if their bytes are the same.
    """
    same = _same_bytes(digests, usable)
    shows = np.flatnonzero(usable & ~are_blank(signatures))
    near: list[NDArray[np.float64]] = [np.empty((0, 4))]
    if len(shows) > 1:
        near += _confirmed(signatures, shows)
    # A row: smaller index, larger index, distance, mirrored or not. Exact pairs come first, so they win.
    rows = np.concatenate([np.column_stack([same, np.zeros((len(same), 2))]), *near])
    order = np.lexsort((rows[:, 2], rows[:, 3], rows[:, 1], rows[:, 0]))
    order = np.concatenate([np.arange(len(same)), order[order >= len(same)]])
    _, first = np.unique(rows[order, :2], axis=0, return_index=True)
    chosen = order[first]
    indices = rows[chosen, :2].astype(np.int64)
    return Pairs(indices, rows[chosen, 2].astype(np.float32), chosen < len(same), rows[chosen, 3] > 0)


def are_blank(signatures: Pixels) -> NDArray[np.bool_]:
    """Return True for each signature (images, 24, 24, 3) of an image of nearly one colour."""
    blank = [np.empty(0, np.bool_)]
    for part in chunks(len(signatures), _CHUNK):
        blank.append(signatures[part].astype(np.float32).std((1, 2)).max(1) < BLANK_LEVELS)
    return np.concatenate(blank)


def components(pairs: Indices, count: int) -> Indices:
    """Return for each of `count` images the smallest index that pairs (pairs, 2) connect it with, itself included."""
    parents = np.arange(count)

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = int(parents[index])
        return index

    for one, other in pairs.tolist():
        first, second = sorted((find(one), find(other)))
        parents[second] = first
    return np.array([find(index) for index in range(count)], np.int64)


def connecting(pairs: Pairs, priority: Sequence[NDArray[np.bool_]]) -> Pairs:
    """Return the fewest pairs that connect the same images: those that are in the first of `priority` first, then near.

    Each of `priority` tells for every pair whether it is to be preferred.
    """
    order = np.lexsort((pairs.distances, *(~preferred for preferred in reversed(priority))))
    parents: dict[int, int] = {}

    def find(index: int) -> int:
        while (above := parents.setdefault(index, index)) != index:
            parents[index] = parents[above]
            index = parents[index]
        return index

    chosen = []
    for position in order.tolist():
        one, other = (find(index) for index in pairs.indices[position].tolist())
        if one != other:
            parents[one] = other
            chosen.append(position)
    return pairs.take(np.array(chosen, np.int64))


def candidates(hashes: NDArray[np.bool_], images: int) -> Iterator[Indices]:
    """Yield pairs (pairs, 2) of rows of `hashes` (2 * images, 64), those of images and then those of mirrored images.

    At most CANDIDATES_PER_IMAGE for each image are yielded, the same pair up to once in every order. The second of a
    pair may be a mirrored image, the first is none.
    """
    generator = np.random.default_rng(0)
    for _ in range(ORDERS):
        bits = generator.permutation(hashes.shape[1])
        keys = np.ascontiguousarray(np.packbits(hashes[:, bits], axis=1)).view(">u8")[:, 0]
        order = np.argsort(keys, kind="stable")
        for step in range(1, NEIGHBOURS + 1):
            pairs = np.column_stack([order[:-step], order[step:]])
            pairs.sort(axis=1)
            chosen: Indices = pairs[(pairs[:, 0] < images) & (pairs[:, 1] - images != pairs[:, 0])]
            yield chosen


def _same_bytes(digests: DigestArray, usable: NDArray[np.bool_]) -> Indices:
    """Return the pairs of images with the same digest: each with the first of its kind."""
    known = np.flatnonzero(digests.any(1) & usable)
    _, first, which = np.unique(digests[known], axis=0, return_index=True, return_inverse=True)
    firsts = known[first[which.reshape(-1)]]
    pairs: Indices = np.column_stack([firsts, known])[firsts != known]
    return pairs


def _confirmed(signatures: Pixels, shows: Indices) -> Iterator[NDArray[np.float64]]:
    """Yield rows of index, index, distance, and 1 if mirrored, of the images `shows` that are duplicates."""
    count = len(shows)
    coefficients = np.concatenate(
        [
            coefficients_of(turned[shows[part]])
            for turned in (signatures, mirrored(signatures))
            for part in chunks(count, _CHUNK)
        ]
    )
    hashes = coefficients > np.median(coefficients, 0)
    packed = np.ascontiguousarray(np.packbits(hashes, axis=1)).view(np.uint64)[:, 0]
    keys = []
    for pairs in candidates(hashes, count):
        differing = np.bitwise_count(packed[pairs[:, 0]] ^ packed[pairs[:, 1]])
        keys.append((pairs[:, 0] * (2 * count) + pairs[:, 1])[differing <= MOST_BITS])
    each = np.unique(np.concatenate(keys))
    for part in chunks(len(each), _CHUNK):
        yield _close(signatures, shows, np.column_stack(np.divmod(each[part], 2 * count)))


def _close(signatures: Pixels, shows: Indices, pairs: Indices) -> NDArray[np.float64]:
    """Return those candidates that are duplicates, as rows of index, index, distance, and 1 if mirrored."""
    count = len(shows)
    is_mirrored = pairs[:, 1] >= count
    one, other = shows[pairs[:, 0]], shows[pairs[:, 1] % count]
    turned = signatures[other]
    turned[is_mirrored] = mirrored(turned[is_mirrored])
    difference = signatures[one].astype(np.float32) - turned
    distances = np.sqrt((difference**2).mean((1, 2, 3)))
    blocks = difference.reshape(len(pairs), SIDE // _BLOCK, _BLOCK, SIDE // _BLOCK, _BLOCK, 3).mean((2, 4))
    close = (distances <= MOST_LEVELS) & (np.abs(blocks).max((1, 2, 3)) <= MOST_BLOCK_LEVELS)
    first, second = np.minimum(one, other), np.maximum(one, other)
    rows: NDArray[np.float64] = np.column_stack([first, second, distances, is_mirrored])[close].astype(np.float64)
    return rows
