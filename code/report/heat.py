"""Heat maps in a report: of which images, and how they are drawn over them. No torch; layer_cam.py computes them."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from report.results import Results

EXAMPLES = 2  # images of a class
MOST_CLASSES = 20
_LEVELS = 64  # of heat in an overlay
_OPAQUE = 0.75  # where there is most heat
_DOWN, _ACROSS = ("top", "middle", "bottom"), ("left", "centre", "right")


class NoHeatMap(Exception):
    """A reason why a network has no heat maps."""


class Explained(NamedTuple):
    """Heat maps (n, rows, columns), each from 0 to 1, and the layer of the network that they are of, with its grid."""

    maps: NDArray[np.float32]
    layer: str
    grid: tuple[int, int]


# From the indices of images, the images (n, height, width, 3) and a class for each (n,); raises NoHeatMap.
Explain = Callable[[Sequence[int], NDArray[np.uint8], NDArray[np.int64]], Explained]


@dataclass(frozen=True)
class Heat:
    """The heat maps of a report, by the index of their image; without any, a `reason`."""

    maps: dict[int, NDArray[np.float32]]
    layer: str = ""
    grid: tuple[int, int] = (0, 0)
    reason: str = ""


def find_heat(explain: Explain, images: Mapping[int, NDArray[np.uint8]], predictions: NDArray[np.int64]) -> Heat:
    """Return the heat of the predicted classes (n,) of some of the n `images`, given by their index."""
    if not images:
        return Heat({}, reason="there is no image to show")
    try:
        found = explain(list(images), np.stack(list(images.values())), predictions[list(images)])
    except NoHeatMap as reason:
        return Heat({}, reason=str(reason))
    return Heat(dict(zip(images, found.maps, strict=True)), found.layer, found.grid)


def examples(results: Results) -> list[int]:
    """Return the indices of the right predictions with the highest confidence, two for each class, by class.

    Of more than 20 classes, those with the most images.
    """
    support = np.bincount(results.labels, minlength=results.scheme.num_classes)
    shown = np.sort(np.argsort(-support, kind="stable")[:MOST_CLASSES])
    right = np.flatnonzero(results.predictions == results.labels)
    ordered = right[np.argsort(-results.confidence[right], kind="stable")]
    return [int(index) for label in shown for index in ordered[results.labels[ordered] == label][:EXAMPLES]]


def overlay(heat: NDArray[np.float32], size: tuple[int, int]) -> bytes:
    """Return a heat map as a PNG file of `size` (width, height) that lets the image below shine through."""
    levels = np.round(_enlarge(heat, size) * (_LEVELS - 1)).astype(np.uint8)
    drawn = Image.fromarray(levels, "L")
    drawn.putpalette((_palette() * 255).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    drawn.save(
        buffer, "PNG", transparency=(_opacity(np.arange(_LEVELS) / (_LEVELS - 1)) * 255).astype(np.uint8).tobytes()
    )
    return buffer.getvalue()


def blend(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image (height, width, 3) below its heat map."""
    warmth = _enlarge(heat, (pixels.shape[1], pixels.shape[0]))
    colors = _palette()[np.round(warmth * (_LEVELS - 1)).astype(np.int64)] * 255
    opacity = _opacity(warmth)[..., None]
    blended: NDArray[np.uint8] = (pixels * (1 - opacity) + colors * opacity).round().astype(np.uint8)
    return blended


def place_of(heat: NDArray[np.float32]) -> str:
    """Return where in the image there is most heat, such as "top left"."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    down = _DOWN[(2 * int(row) + 1) * 3 // (2 * heat.shape[0])]
    across = _ACROSS[(2 * int(column) + 1) * 3 // (2 * heat.shape[1])]
    return across if (down, across) == ("middle", "centre") else f"{down} {across}"


def _enlarge(heat: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a heat map (height, width) for an image of `size` (width, height)."""
    enlarged = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC))
    clipped: NDArray[np.float32] = enlarged.clip(0, 1)
    return clipped


def _palette() -> NDArray[np.float64]:
    """Return the colours of the levels of heat, (levels, 3), from violet to yellow."""
    colors: NDArray[np.float64] = colormaps["plasma"](np.linspace(0.15, 1, _LEVELS))[:, :3]
    return colors


def _opacity(warmth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how opaque an overlay is, so that the image stays visible where there is little heat."""
    opacity: NDArray[np.float64] = _OPAQUE * warmth.astype(np.float64)
    return opacity
