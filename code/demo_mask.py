"""Masks of the demo's faces: a patch of fabric over the face, worn well, under the nose, or on the chin.

A point of the fabric is (u, v): u from -1 at the left edge to 1 at the right, v from 0 at the top edge to 1 at the
bottom. Pleats, stripes and dots follow it, whatever the shape.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from demo_face import Face
from demo_pen import BLACK, LIGHT, NEUTRAL, SHADE, WHITE, Color, Curve, Pen, arc, mix
from labels import MaskLabels

PLAIN = (
    (236, 240, 242), (44, 46, 52), (122, 130, 138), (238, 190, 196), (92, 118, 150), (196, 206, 188), (168, 86, 80),
)  # fmt: skip
SURGICAL = ((150, 200, 222), (168, 212, 226), (176, 214, 190), (238, 242, 244), (140, 184, 214))
PATTERNS = {"pleats": 0.46, "ridge": 0.16, "plain": 0.2, "stripes": 0.06, "dots": 0.07, "checks": 0.05}


@dataclass(frozen=True)
class Mask:
    """One mask: where its edges are, and what it is made of."""

    top: float  # height of the top edge in the middle of the face
    bottom: float
    corner: float  # height of the upper corners
    half_width: float
    color: Color
    second: Color
    pattern: str

    @property
    def crease(self) -> Color:
        return mix(self.color, BLACK if sum(self.color) > 250 else WHITE, 0.15)

    def at(self, u: ArrayLike, v: ArrayLike) -> Curve:
        """The place of points of the fabric on the face, (points, 2)."""
        u, v = np.broadcast_arrays(np.asarray(u, float), np.asarray(v, float))
        top = self.corner + (self.top - self.corner) * (1 - np.abs(u) ** 1.6)
        low = self.corner + 0.62 * (self.bottom - self.corner)
        bottom = low + (self.bottom - low) * (1 - np.abs(u) ** 2.2)
        half = self.half_width * (1 - 0.26 * v**1.5)
        return np.stack([u * half, top + (bottom - top) * v], axis=-1)


def put_on_mask(worn: MaskLabels, face: Face, rng: np.random.Generator) -> Mask:
    """A mask over nose, mouth and chin where it is worn well, else under the nose or on the chin."""
    pattern = str(rng.choice(list(PATTERNS), p=list(PATTERNS.values())))
    palette = SURGICAL if pattern == "pleats" and rng.random() < 0.75 else PLAIN
    color, second = (colors[rng.integers(len(colors))] for colors in (palette, PLAIN))
    if worn == MaskLabels.MASK:
        top, bottom, corner = rng.uniform(0.0, 0.15), rng.uniform(1.15, 1.26), rng.uniform(0.12, 0.26)
    elif rng.random() < 0.6:  # under the nose
        top, bottom, corner = face.nose.tip + rng.uniform(0.06, 0.16), rng.uniform(1.17, 1.3), rng.uniform(0.3, 0.46)
    else:  # on the chin
        top, bottom, corner = face.nose.tip + rng.uniform(0.46, 0.58), rng.uniform(1.3, 1.42), rng.uniform(0.6, 0.76)
    return Mask(top, bottom, corner, face.build.width * (1.01 - 0.1 * corner), color, second, pattern)


def draw_mask(pen: Pen, mask: Mask) -> None:
    """Ear loops, fabric, its pattern, and the light on it."""
    _draw_loops(pen, mask)
    span = np.linspace(-1, 1, 25)
    right = mask.at(1, span / 2 + 0.5)
    outline = np.concatenate([mask.at(span, 0), right, mask.at(span[::-1], 1), (right * (-1, 1))[::-1]])
    pen.fill(outline, mask.color)
    _draw_pattern(pen, mask, span)
    for v in (0.025, 0.97):
        pen.stroke(mask.at(span[::3], v), mask.crease, 0.022, taper=0.2)
    pen.glow(outline, NEUTRAL)  # light and shadow of the face do not shine through
    height = mask.bottom - mask.top
    pen.glow(arc((0, mask.top + 0.3 * height), (0.24, 0.28 * height)), LIGHT, 0.5)
    hollow = mask.at([0.98, 0.98, 0.94, 0.7, 0.78, 0.8], [0.1, 0.5, 0.9, 0.85, 0.5, 0.15])
    for side in (-1, 1):
        pen.glow(hollow * (side, 1), SHADE, 0.6)
    pen.glow(mask.at(np.concatenate([span, span[::-1]]), np.repeat([1.0, 0.86], len(span))), SHADE, 0.55)


def _draw_loops(pen: Pen, mask: Mask) -> None:
    """Two bands on each side, from the corners of the mask to behind the ear."""
    upper, lower = mask.at(0.98, [0.04, 0.9])
    ear = mask.half_width + 0.1
    bend = (mask.half_width * 0.97, lower[1] / 2 + 0.05)
    bands = ([upper, (ear - 0.03, -0.12), (ear, -0.02)], [lower, bend, (ear, 0.14)])
    for side in (-1, 1):
        for band in bands:
            pen.stroke(np.array(band) * (side, 1), mix(mask.color, WHITE, 0.5), 0.03, taper=0)


def _draw_pattern(pen: Pen, mask: Mask, span: Curve) -> None:
    if mask.pattern == "pleats":
        for v in (0.3, 0.5, 0.7):
            pen.stroke(mask.at(span[1:-1:3], v), mask.crease, 0.026, taper=0.4)
            pen.stroke(mask.at(span[1:-1:3], v + 0.035), mix(mask.color, WHITE, 0.35), 0.018, taper=0.4)
    elif mask.pattern == "ridge":
        pen.stroke(mask.at(0, [0.02, 0.3, 0.6, 0.97]), mask.crease, 0.03, taper=0.3)
        for side in (-0.55, 0.55):
            pen.stroke(mask.at([side * 1.3, side, side * 0.9], [0.05, 0.5, 0.94]), mask.crease, 0.02, taper=0.5)
    elif mask.pattern in ("stripes", "checks"):
        for u in np.linspace(-0.88, 0.88, 9):
            pen.stroke(mask.at(u, [0.01, 0.35, 0.7, 0.99]), mask.second, 0.045, opacity=0.8, taper=0)
        for v in (0.15, 0.38, 0.61, 0.84) if mask.pattern == "checks" else ():
            pen.stroke(mask.at(span[::4], v), mask.second, 0.045, opacity=0.55, taper=0)
    elif mask.pattern == "dots":
        for row, v in enumerate((0.14, 0.32, 0.5, 0.68, 0.86)):
            for x, y in mask.at(np.linspace(-0.86, 0.86, 8) + 0.06 * (row % 2), v):
                pen.fill(arc((x, y), (0.032, 0.032)), mask.second)
