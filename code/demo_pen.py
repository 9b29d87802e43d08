"""Smooth shapes on paper: the drawing tools of the demo's faces, on Pillow and NumPy.

Shapes are drawn twice as large as the picture and reduced, which smooths their edges. Soft light and shadow are drawn
on a small grey layer that is blurred, enlarged and laid over the picture: a hundred times cheaper than blurring it.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH, HEIGHT = 384, 512  # of the finished picture, in pixels
FINE = 2  # pixels of the paper per pixel of the picture
COARSE = 4  # pixels of the picture per pixel of the soft layer

Color = tuple[int, int, int]
Curve = NDArray[np.float64]  # (points, 2): x to the right, y down
Points = Curve | Sequence[tuple[float, float]]

_FLATNESS = 1 / np.array([0.85, 1.35]) ** 2  # of the front of the head, an ellipsoid
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LIGHT, SHADE, NEUTRAL = (172, 169, 165), (94, 91, 96), (128, 128, 128)  # of the soft layer
OUT, DOWN = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def mix(first: Color, second: Color, share: float) -> Color:
    """A colour between two: the first at share 0, the second at share 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def smooth(points: Points, *, closed: bool = True) -> Curve:
    """The Catmull-Rom spline through `points`: six pieces between two of them."""
    return _spline(len(points), closed)[0] @ np.asarray(points, dtype=np.float64)


@lru_cache
def _spline(knots: int, closed: bool, steps: int = 6) -> tuple[Curve, Curve]:
    """The weight of every knot in every point of the curve, and in its direction there: two of (points, knots)."""
    pieces = knots if closed else knots - 1
    place = np.arange(pieces * steps + (not closed)) / steps
    first = np.minimum(place.astype(int), pieces - 1)
    t = place - first
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    weights = np.stack([np.ones_like(t), t, t**2, t**3], axis=1) @ basis  # of the four knots around each point
    slopes = np.stack([0 * t, np.ones_like(t), 2 * t, 3 * t**2], axis=1) @ basis
    curve, direction = np.zeros((2, len(place), knots))
    for offset in range(4):
        knot = first + offset - 1
        knot = knot % knots if closed else knot.clip(0, knots - 1)  # an open curve starts and ends as if at rest
        np.add.at(curve, (np.arange(len(place)), knot), weights[:, offset])
        np.add.at(direction, (np.arange(len(place)), knot), slopes[:, offset])
    return curve, direction


def arc(center: tuple[float, float], radii: tuple[float, float], start: float = 0, stop: float = 360) -> Curve:
    """Part of an ellipse: degrees from the right, clockwise as seen on the paper."""
    return _unit_arc(start, stop) * radii + center


@lru_cache
def _unit_arc(start: float, stop: float) -> Curve:
    angles = np.radians(np.linspace(start, stop, max(8, int(abs(stop - start) / 12))))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def mirrored(points: Points) -> Curve:
    """The points of a right half, followed by the same of the left half on the way back."""
    right = np.asarray(points, dtype=np.float64)
    return np.concatenate([right, right[::-1] * (-1, 1)])


class Paper:
    """The sheet that a picture is drawn on: sharp shapes, and a soft layer of light and shadow above them."""

    def __init__(self, background: Color) -> None:
        self._sheet = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), background)
        self._soft = Image.new("RGB", (WIDTH // COARSE, HEIGHT // COARSE), NEUTRAL)
        self._draw = ImageDraw.Draw(self._sheet)
        self._draw_translucent = ImageDraw.Draw(self._sheet, "RGBA")
        self._draw_soft = ImageDraw.Draw(self._soft, "RGBA")

    def fill(self, outline: Curve, color: Color, opacity: float) -> None:
        """Fill an outline in pixels of the finished picture."""
        points = (outline * FINE).ravel().tolist()
        if opacity >= 1:
            self._draw.polygon(points, fill=color)
        else:
            self._draw_translucent.polygon(points, fill=(*color, round(255 * opacity)))

    def glow(self, outline: Curve, color: Color, opacity: float) -> None:
        """Tint the soft layer: brighter than NEUTRAL is light, darker is shadow."""
        self._draw_soft.polygon((outline / COARSE).ravel().tolist(), fill=(*color, round(255 * opacity)))

    def finish(self, gradient: Image.Image) -> Image.Image:
        """The picture under the soft layer and a gradient of light, a grey image of the soft layer's size."""
        blurred = self._soft.filter(ImageFilter.GaussianBlur(1.6))
        light = ImageChops.add(blurred, gradient.convert("RGB"), 1, -128)
        light = light.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        return ImageChops.hard_light(self._sheet.reduce(FINE), light)


class Pen:
    """Draws in units of a head: it is 2.3 high and 1.5 wide, and (0, 0) lies between the eyes.

    `turn` moves what lies on the front of the head sideways and up or down, by as much as it stands out (`depth`).
    """

    def __init__(
        self, paper: Paper, scale: float, center: tuple[float, float], tilt: float, turn: tuple[float, float] = (0, 0)
    ) -> None:
        self._paper = paper
        cosine, sine = scale * np.cos(tilt), scale * np.sin(tilt)
        self._matrix = np.array([[cosine, sine], [-sine, cosine]])
        self._center = np.array(center)
        self._turn = np.array(turn)
        self._scale = scale

    def place(self, points: Points, depth: float) -> Curve:
        """Where points of the head lie in the picture, in pixels."""
        points = np.asarray(points, dtype=np.float64)
        if depth:
            height = np.sqrt(np.maximum(0, 1 - points**2 @ _FLATNESS))
            points = points + height[:, None] * (self._turn * depth)
        placed: Curve = points @ self._matrix + self._center
        return placed

    def fill(self, outline: Points, color: Color, opacity: float = 1, depth: float = 1) -> None:
        self._paper.fill(self.place(outline, depth), color, opacity)

    def glow(self, outline: Points, color: Color, opacity: float = 1, depth: float = 1) -> None:
        self._paper.glow(self.place(outline, depth), color, opacity)

    def stroke(
        self, points: Points, color: Color, width: float, *, opacity: float = 1, depth: float = 1, taper: float = 1
    ) -> None:
        """A brush stroke along a smooth curve, thinner towards both ends (taper 0: towards none)."""
        knots = self.place(points, depth)
        curve, direction = (weights @ knots for weights in _spline(len(knots), False))
        normal = direction[:, ::-1] * (-1, 1) / (np.hypot(*direction.T)[:, None] + 1e-9)
        half = normal * _swelling(len(curve), taper) * (width / 2 * self._scale)
        self._paper.fill(np.concatenate([curve + half, (curve - half)[::-1]]), color, opacity)


@lru_cache
def _swelling(points: int, taper: float) -> Curve:
    """The width of a stroke along its way, (points, 1)."""
    return 1 - taper * np.abs(np.linspace(-1, 1, points))[:, None] ** 2.5
