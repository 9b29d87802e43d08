"""Portraits of the demo: an image of a face, from the wall behind it to the mask on it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from faces.people import Color, Face, mix, pick
from labels import MaskLabels

Curve = NDArray[np.float64]  # (points, 2): x to the right, y down
Points = Curve | Sequence[tuple[float, float]]

WIDTH, HEIGHT = 384, 512  # of the image, in pixels
FINE, COARSE = 2, 4  # shapes are drawn FINE times larger than the image, light and shadow COARSE times smaller
WHITE, BLACK, BROWN = (255, 255, 255), (0, 0, 0), (84, 40, 36)
LIGHT, SHADE, NEUTRAL = (172, 169, 165), (94, 91, 96), (128, 128, 128)  # of the layer of light and shadow
WALLS: Sequence[Color] = ((214, 206, 194), (186, 202, 206), (178, 192, 172), (168, 178, 196), (224, 198, 170))
MASKS: Sequence[Color] = ((150, 200, 222), (176, 214, 190), (236, 240, 242), (44, 46, 52), (238, 190, 196))
NOSE = 0.36  # how far the tip of the nose is below the eyes


def smooth(points: Points, *, closed: bool = True, steps: int = 6) -> Curve:
    """Return the Catmull-Rom spline through the points."""
    knots = np.asarray(points, dtype=np.float64)
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    knots = np.concatenate([before, knots, after])
    a, b, c, d = (knots[start : len(knots) - 3 + start, None] for start in range(4))
    t = np.arange(steps)[:, None] / steps
    curve = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
    return np.concatenate([curve.reshape(-1, 2), knots[-1:]]) if not closed else curve.reshape(-1, 2)


def mirrored(points: Points) -> Curve:
    """Return the points of a right half, followed by those of the left half on the way back."""
    right = np.asarray(points, dtype=np.float64)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def ellipse(x: float, y: float, width: float, height: float, start: float = 0, stop: float = 360) -> Curve:
    """Return part of an ellipse around (x, y): degrees from the right, clockwise as seen on the image."""
    angles = np.radians(np.linspace(start, stop, 30))
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


class Canvas:
    """Draws in units of half a head: the head is 2.3 high and 1.5 wide, and (0, 0) lies between the eyes.

    With the turn of the head a shape moves by its `depth`: 1 lies on the face, 0 on the outline. `twice` draws it on
    both sides. Light and shadow (`soft`) are a layer of their own, which is blurred and laid over the image.
    """

    def __init__(self, wall: Color, rng: np.random.Generator) -> None:
        tilt, self._scale = float(np.clip(rng.normal(0, 0.045), -0.13, 0.13)), rng.uniform(110, 123)
        self._rotation = self._scale * np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self._center, self._turn = rng.normal((WIDTH / 2, HEIGHT * 0.45), 6.5), rng.normal(0, (0.05, 0.02))
        self._image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), wall)
        self._light = Image.new("RGB", (WIDTH // COARSE, HEIGHT // COARSE), NEUTRAL)
        self._sharp, self._soft = (ImageDraw.Draw(layer, "RGBA") for layer in (self._image, self._light))

    def fill(
        self, shape: Points, color: Color, opacity: float = 1, depth: float = 1, twice: bool = False, soft: bool = False
    ) -> None:
        """Fill a shape with a colour; a soft one is light if it is brighter than NEUTRAL, otherwise shadow."""
        draw, zoom = (self._soft, 1 / COARSE) if soft else (self._sharp, FINE)
        for side in (1, -1) if twice else (1,):
            points = np.asarray(shape, dtype=np.float64) * (side, 1)
            height = np.sqrt(np.maximum(0, 1 - (points**2 / (0.72, 1.82)).sum(axis=1, keepdims=True)))
            placed = (points + height * self._turn * depth) @ self._rotation + self._center
            draw.polygon((placed * zoom).ravel().tolist(), (*color, round(255 * opacity)))

    def stroke(
        self, points: Points, color: Color, width: float, opacity: float = 1, depth: float = 1, twice: bool = False
    ) -> None:
        """Draw a smooth line, thinner towards its ends."""
        curve = smooth(points, closed=False)
        along = np.gradient(curve, axis=0)
        across = along[:, ::-1] * (-1, 1) / (np.hypot(*along.T)[:, None] + 1e-9)
        half = across * width / 2 * (1 - 0.8 * np.abs(np.linspace(-1, 1, len(curve)))[:, None] ** 3)
        self.fill(np.concatenate([curve + half, (curve - half)[::-1]]), color, opacity, depth, twice=twice)

    def photograph(self, rng: np.random.Generator) -> Image.Image:
        """Return the image with light from one side, exposure, white balance and sensor noise."""
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 26)
        x, y = np.linspace(-1, 1, WIDTH // COARSE), np.linspace(-1, 1, HEIGHT // COARSE)[:, None]
        side = Image.fromarray((128 + strength * (x * np.cos(angle) + y * np.sin(angle))).astype(np.uint8))
        light = ImageChops.add(self._light.filter(ImageFilter.GaussianBlur(1.6)), side.convert("RGB"), 1, -128)
        image = ImageChops.hard_light(self._image.reduce(FINE), light.resize((WIDTH, HEIGHT)))
        gains = rng.normal(rng.uniform(0.88, 1.08), 0.016, 3)
        levels = 255 * gains[:, None] * (np.arange(256) / 255) ** rng.uniform(0.9, 1.15)
        image = image.point(levels.clip(0, 255).round().astype(int).ravel().tolist())
        noise = Image.fromarray(rng.integers(124, 132, (HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8))
        return ImageChops.add(image, noise.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST), 1, -128)


def draw_portrait(face: Face, worn: MaskLabels, rng: np.random.Generator) -> Image.Image:
    """Draw a face with the mask worn as told; pose, light, wall and mask are random."""
    wall = mix(pick(WALLS, rng), (BLACK, WHITE)[rng.integers(2)], rng.uniform(0, 0.35))
    canvas = Canvas(wall, rng)
    for x, y, radius in rng.uniform((-1.6, -2, 0.2), (1.6, 2, 0.9), (4, 3)):  # pale discs on the wall
        canvas.fill(ellipse(x, y, radius, radius), mix(wall, (BLACK, WHITE)[rng.integers(2)], 0.08), 1, 0)
    _draw_body(canvas, face)
    _draw_head(canvas, face)
    _draw_wrinkles(canvas, face)
    _draw_nose_and_mouth(canvas, face, rng)
    _draw_eyes(canvas, face, rng)
    if worn != MaskLabels.NORMAL:
        _draw_mask(canvas, random_mask(worn, rng), rng)
    _draw_glasses_and_hair(canvas, face, rng)
    return canvas.photograph(rng)


def _draw_body(canvas: Canvas, face: Face) -> None:
    """Draw long hair behind the neck, the neck and clothes."""
    if end := face.hair_length:
        nape = smooth(mirrored([(0.4, 0.3), (0.75, 0.3), (0.67, 0.9 * end), (0.3, end - 0.05)]))
        canvas.fill(nape, mix(face.hair, BLACK, 0.35), 1, 0)
    neck = face.neck
    canvas.fill(smooth(mirrored([(neck, 0.5), (neck, 1.1), (neck * 1.1, 1.45), (0.6, 1.7), (0.4, 2.1)])), face.skin)
    chin = smooth(mirrored([(neck, 0.8), (neck * 0.98, 1.15), (0.2, 1.38)]))
    canvas.fill(chin, mix(face.skin, BROWN, 0.3), 0.7, 0)
    shoulder = smooth([(neck * 1.12, 1.46), (0.85, 1.62), (1.35, 1.82), (1.5, 2.3), (1.6, 3.2)], closed=False)
    collar = [(-neck * 0.58, 1.7), (0, 1.9), (neck * 0.58, 1.7)]
    canvas.fill(np.concatenate([shoulder[::-1] * (-1, 1), collar, shoulder]), face.clothes, 1, 0)
    canvas.stroke([shoulder[0] * (-1, 1), *collar, shoulder[0]], mix(face.clothes, BLACK, 0.22), 0.06, 1, 0)


def _draw_head(canvas: Canvas, face: Face) -> None:
    """Draw ears, the face with the light and shadow that make it round, and the beard."""
    canvas.fill(ellipse(0.78, 0.06, 0.12, 0.2), mix(face.skin, BROWN, 0.1), 1, -0.4, twice=True)
    canvas.fill(ellipse(0.8, 0.05, 0.06, 0.12), mix(face.skin, BROWN, 0.25), 1, -0.4, twice=True)
    jaw = [(face.jaw + 0.06, 0.62), (face.jaw * 0.82, 0.88), (face.chin, 1.08), (0.06, 1.14)]
    skull = [(0.02, -1.15), (0.42, -1.04), (0.7, -0.66), (0.765, -0.15), (0.74, 0.25)]
    canvas.fill(smooth(mirrored([*skull, *jaw])), face.skin, 1, 0)
    rim = [*skull[3:], *jaw[:2], (face.jaw - 0.08, 0.7), (0.56, 0.2)]
    canvas.fill(rim, SHADE, 0.5, 0, twice=True, soft=True)
    canvas.fill(ellipse(0.34, -0.08, 0.2, 0.12), SHADE, 0.3, twice=True, soft=True)
    canvas.fill(ellipse(0.43, 0.34, 0.17, 0.13), (158, 112, 112), 0.3, twice=True, soft=True)  # red cheeks
    canvas.fill(ellipse(0, -0.6, 0.36, 0.2), LIGHT, 0.4, soft=True)
    canvas.fill(ellipse(0, 0.1, 0.05, 0.26), LIGHT, 0.4, soft=True)
    beard = [(0.05, 0.47), (0.26, 0.52), (0.42, 0.5), (0.66, 0.2), (0.74, 0.28), *jaw]
    canvas.fill(smooth(mirrored(beard)), mix(face.hair, BROWN, 0.25), face.beard**1.5, 0.3)
    if face.beard > 0.5:
        canvas.stroke([(0.02, 0.53), (0.17, 0.55), (0.31, 0.64)], mix(face.hair, BLACK, 0.2), 0.1, twice=True)


def _draw_wrinkles(canvas: Canvas, face: Face) -> None:
    """Draw lines on the forehead, bags under the eyes, and folds beside the mouth."""
    line = mix(face.skin, BROWN, 0.5)
    for y in (-0.72, -0.6, -0.49):
        canvas.stroke([(-0.4, y + 0.02), (-0.1, y - 0.015), (0.4, y + 0.02)], line, 0.024, 0.7 * face.forehead)
    canvas.stroke([(0.21, 0.06), (0.34, 0.13), (0.47, 0.07)], line, 0.024, 0.7 * face.bags, twice=True)
    canvas.fill(ellipse(0.34, 0.09, 0.17, 0.07), SHADE, 0.85 * face.bags, twice=True, soft=True)
    canvas.stroke([(0.16, 0.32), (0.25, 0.46), (0.31, 0.66)], line, 0.026, 0.7 * face.folds, twice=True)
    canvas.fill(ellipse(0.27, 0.5, 0.06, 0.16), SHADE, 0.9 * face.folds, twice=True, soft=True)


def _draw_nose_and_mouth(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Draw the nose, and lips with more or less of a smile."""
    shadow, full = mix(face.skin, BROWN, 0.3), 0.062 * face.lips
    under = smooth(mirrored([(0.02, 0.38), (0.1, 0.285), (0.155, 0.34), (0.07, 0.415), (0.02, 0.435)]))
    canvas.fill(under, shadow, 0.45, 1.35)
    canvas.fill(ellipse(0.065, NOSE + 0.035, 0.034, 0.017), mix(shadow, BLACK, 0.45), 1, 1.35, twice=True)
    canvas.stroke([(0.14, 0.27), (0.17, 0.35), (0.13, 0.395)], shadow, 0.024, 1, 1.3, twice=True)
    canvas.fill(ellipse(0, 0.3, 0.07, 0.05), LIGHT, 0.6, 1.4, soft=True)
    color = mix(mix(face.skin, (170, 70, 74), 0.45), (186, 56, 76), face.makeup)
    line = smooth(mirrored([(0.255, 0.67 - rng.normal(0.035, 0.022)), (0.13, 0.67), (0.02, 0.68)]), closed=False)
    low = mirrored([(0.13, 0.67 + full * 1.15), (0.03, 0.67 + full * 1.45)])[::-1]
    bow = mirrored([(0.13, 0.67 - full * 0.75), (0.05, 0.67 - full), (0.01, 0.67 - full * 0.8)])[::-1]
    canvas.fill([*line, *smooth(low, closed=False)], color)
    canvas.fill([*line, *smooth(bow, closed=False)], mix(color, BLACK, 0.1))
    canvas.stroke(line[::6], mix(color, (60, 10, 20), 0.5), 0.02)


def _draw_eyes(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Draw eyes with lids and lashes, and brows."""
    x, lash = np.linspace(-1, 1, 13), mix((34, 24, 24), face.skin, 0.12)
    height = 0.1 * face.eyes**2 * rng.uniform(0.85, 1.15) * (1 - 0.25 * face.bags)
    upper = np.stack([0.34 + 0.185 * face.eyes * x, -0.06 - height * (1 - np.abs(x) ** 2.2)], axis=1)
    lower = np.stack([upper[:, 0], -0.06 + 0.72 * height * (1 - x**2)], axis=1)
    canvas.fill([*upper, *lower[::-1]], (247, 243, 238), twice=True)
    for radius, color in ((0.096, mix(face.iris, BLACK, 0.35)), (0.083, face.iris), (0.043, BLACK)):
        disc = ellipse(0.34, -0.06, radius, radius)
        disc[:, 1] = disc[:, 1].clip(*(np.interp(disc[:, 0], *lid.T) for lid in (upper, lower)))
        canvas.fill(disc, color, twice=True)
    canvas.fill(ellipse(0.37, -0.09, 0.02, 0.02), WHITE, 0.9, twice=True)
    wing = upper[-1] + np.multiply((0.05, -0.04), face.lashes)
    canvas.stroke([*upper[::2], wing], lash, 0.026 + 0.03 * face.lashes, twice=True)
    canvas.stroke(lower[::2], lash, 0.014, 0.55, twice=True)
    brow = [(0.14, -0.265), (0.29, -0.335), (0.44, -0.345), (0.57, -0.26)]
    canvas.stroke(brow, mix(face.hair, (40, 30, 28), 0.4), face.brows * 1.25, 0.88, twice=True)


def _draw_glasses_and_hair(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Draw what lies over a mask: round glasses, and the hair on the head and beside the face."""
    lens = ellipse(0.34, -0.03, 0.25, 0.225)
    for part in (lens, [(0.09, -0.05), (0, -0.09)], [(0.59, -0.08), (0.78, -0.09)]) if face.glasses else ():
        canvas.stroke(part, (34, 32, 38), 0.036, 1, 1.1, twice=True)
    if face.bald:
        fringe = [(0.79, -0.62), (0.84, -0.3), (0.84, 0.05), (0.77, 0.12), (0.74, -0.2), (0.71, -0.5)]
        canvas.fill(smooth(fringe), face.hair, 0.9, 0.1, twice=True)
        canvas.fill(ellipse(0.15, -0.9, 0.28, 0.12), LIGHT, 0.8, soft=True)
        return
    outer, side, end = np.array([(0.8, 0.16)]), [(0.69, -0.3), (0.69, -0.05), (0.72, 0.12)], face.hair_length
    if end:
        outer = smooth([(0.62, end), (0.8, end), (0.95, 0.8 * end), (0.96, 0.4 * end), (0.9, -0.28)], closed=False)
        side = [(0.67, -0.2), (0.67, 0.2), (0.64, 0.55 * end), (0.59, 0.85 * end), (0.62, end)]
    crown, line = ellipse(0, -0.28, 0.9, 1, 0, -180), smooth(_hairline(face), closed=False)
    inner = smooth([*np.array(side)[::-1] * (-1, 1), *line, *side], closed=False)
    canvas.fill([*outer, *crown, *outer[::-1] * (-1, 1), *inner], face.hair, 1, 0.25)
    for share in np.linspace(0.06, 0.94, 15):
        tone = mix(face.hair, (BLACK, WHITE)[rng.integers(2)], rng.uniform(0.06, 0.18))
        top, low = crown[29 - int(share * 29)] * 0.93, line[int(share * (len(line) - 1))]
        canvas.stroke([top, (top + low) / 2 * (1.08, 1.05), low], tone, rng.uniform(0.025, 0.06), 0.7, 0.25)
    for x in (0.7, 0.78, 0.86) if end else ():
        strand = [(x, -0.3), (x + 0.04, 0.4 * end), (x, 0.9 * end)]
        canvas.stroke(strand, mix(face.hair, WHITE, rng.uniform(0, 0.15)), 0.04, 0.7, 0.1, twice=True)
    canvas.fill(ellipse(0.1, -0.98, 0.4, 0.12), LIGHT, 0.6, 0.25, soft=True)


def _hairline(face: Face) -> Curve:
    """Return where the hair ends on the forehead, from the left temple to the right one."""
    back = 0.12 * face.recession
    if face.front == "bangs":
        return mirrored([(0.66, -0.22), (0.4, -0.32), (0.12, -0.35)])[::-1]
    if face.front == "back":
        return mirrored([(0.68, -0.36), (0.47, -0.64 - 2 * back), (0.24, -0.74 - back), (0.06, -0.76 - back)])[::-1]
    low = [(-0.65, -0.3), (-0.42, -0.5), (-0.02, -0.6 - back), (0.3, -0.76 - back)]
    line = np.array([*low, (0.44, -0.92 - back), (0.56, -0.66), (0.67, -0.34)])
    return line if face.front == "right" else line[::-1] * (-1, 1)


class Mask(NamedTuple):
    """The heights of a mask's edges on the face; `corner` is that of the upper corners."""

    top: float
    bottom: float
    corner: float

    def at(self, u: float | Curve, v: float | Curve) -> Curve:
        """Return points of the fabric: u from -1 (left edge) to 1, v from 0 (top edge) to 1."""
        top = self.corner + (self.top - self.corner) * (1 - np.abs(u) ** 1.6)
        bottom = self.corner + (self.bottom - self.corner) * (1 - 0.38 * np.abs(u) ** 2.2)
        half = (0.77 - 0.08 * self.corner) * (1 - 0.26 * np.power(v, 1.5))
        return np.stack(np.broadcast_arrays(u * half, top + (bottom - top) * v), axis=-1)


def random_mask(worn: MaskLabels, rng: np.random.Generator) -> Mask:
    """Return a mask over nose, mouth and chin if it is worn well, otherwise under the nose or on the chin."""
    if worn == MaskLabels.MASK:
        return Mask(*rng.uniform((0, 1.15, 0.12), (0.15, 1.26, 0.26)))
    if rng.random() < 0.6:
        return Mask(*rng.uniform((NOSE + 0.06, 1.17, 0.3), (NOSE + 0.16, 1.3, 0.46)))
    return Mask(*rng.uniform((NOSE + 0.46, 1.3, 0.6), (NOSE + 0.58, 1.42, 0.76)))


def _draw_mask(canvas: Canvas, mask: Mask, rng: np.random.Generator) -> None:
    """Draw ear loops, and fabric with pleats or without."""
    color = pick(MASKS, rng)
    upper, lower = mask.at(0.98, np.array([0.04, 0.9]))
    for loop in ([upper, (0.84, -0.12), (0.87, -0.02)], [lower, (0.74, lower[1] / 2 + 0.05), (0.87, 0.14)]):
        canvas.stroke(loop, mix(color, WHITE, 0.5), 0.03, twice=True)
    span, right = np.linspace(-1, 1, 25), mask.at(1, np.linspace(0, 1, 25))
    outline = np.concatenate([mask.at(span, 0), right, mask.at(span[::-1], 1), right[::-1] * (-1, 1)])
    canvas.fill(outline, color)
    for v in (0.025, 0.3, 0.5, 0.7, 0.97) if rng.random() < 0.5 else (0.025, 0.97):
        canvas.stroke(mask.at(span[1:-1:2], v), mix(color, BLACK if sum(color) > 250 else WHITE, 0.15), 0.026)
    canvas.fill(outline, NEUTRAL, soft=True)  # light and shadow of the face do not shine through
    canvas.fill(ellipse(0, mask.top + 0.3 * (mask.bottom - mask.top), 0.24, 0.2), LIGHT, 0.5, soft=True)
    canvas.fill([*mask.at(span, 1), *mask.at(span[::-1], 0.86)], SHADE, 0.55, soft=True)
