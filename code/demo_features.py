"""The features of the demo's faces: eyes and brows, nose, mouth, beard, the marks of age, glasses and earrings."""

import numpy as np

from demo_face import SILVER, Face
from demo_hair import hair_color
from demo_pen import BLACK, DOWN, OUT, SHADE, WHITE, Color, Curve, Pen, arc, mirrored, mix, smooth

EYE_X, EYE_Y = 0.34, -0.06  # of the middle of the right eye
MOUTH_Y = 0.31  # of the mouth, below the tip of the nose
GOLD = (222, 190, 110)


def shadow_color(face: Face) -> Color:
    return mix(face.skin, (90, 40, 40), 0.3)


def draw_eyes(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """Both eyes, with one gaze, and the brows."""
    gaze, opening = rng.normal(0, 0.018), float(np.clip(rng.normal(1, 0.08), 0.75, 1.15))
    lift = rng.normal(0, 0.012)
    for side in (-1, 1):
        x = side * EYE_X * face.eyes.spacing
        upper, lower = _lids(face, side, opening)
        _draw_eyeball(pen, face, upper, lower, (x + gaze, EYE_Y - 0.012))
        _draw_lids(pen, face, upper, lower)
        _draw_brow(pen, face, side, lift)


def _lids(face: Face, side: int, opening: float) -> tuple[Curve, Curve]:
    """The edges of the upper and the lower lid, from the nose outwards, (13, 2) each."""
    eyes, t = face.eyes, np.linspace(-1, 1, 13)
    half, height = 0.185 * eyes.size, 0.1 * eyes.size**2 * opening * (1 - 0.25 * face.age.eyes)
    middle = EYE_Y - eyes.slant * t * half
    lower = middle + 0.72 * height * (1 - t**2)
    upper = np.minimum(middle - height * (1 - 0.8 * np.abs(t + 0.12) ** 2.2).clip(0), lower)
    x = side * (EYE_X * eyes.spacing + half * t)
    return np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)


def _draw_eyeball(pen: Pen, face: Face, upper: Curve, lower: Curve, pupil: tuple[float, float]) -> None:
    """The white, and an iris that the lids cover in part."""
    lid = np.concatenate([upper - 0.075 * DOWN, upper[::-1]])
    pen.fill(lid, mix(face.skin, face.outfit.accent, 0.25), face.eyes.shadow)
    pen.fill(np.concatenate([upper, lower[::-1]]), (247, 243, 238))
    order = np.argsort(upper[:, 0])
    for radius, color in ((0.096, mix(face.eyes.iris, BLACK, 0.35)), (0.083, face.eyes.iris), (0.043, (18, 14, 14))):
        disc = arc(pupil, (radius, radius))
        top, bottom = (np.interp(disc[:, 0], lid[order, 0], lid[order, 1]) for lid in (upper, lower))
        disc[:, 1] = np.clip(disc[:, 1], top, bottom)
        pen.fill(disc, color)
    pen.fill(arc((pupil[0] + 0.03, pupil[1] - 0.03), (0.02, 0.02)), WHITE, 0.9)


def _draw_lids(pen: Pen, face: Face, upper: Curve, lower: Curve) -> None:
    lash, lashes = mix((34, 24, 24), face.skin, 0.12), face.eyes.lashes
    pen.stroke(upper[::2] - 0.006 * DOWN, lash, 0.026 + 0.03 * lashes, taper=0.6)
    if lashes > 0.5:
        wing = upper[-1] + 0.05 * np.sign(upper[-1, 0]) * OUT - 0.045 * DOWN
        pen.stroke(np.array([upper[-3], upper[-1], wing]), lash, 0.03 * lashes)
    pen.stroke(lower[::2] + 0.004 * DOWN, lash, 0.014, opacity=0.55)
    pen.stroke(upper[::3] - (0.05 - 0.02 * face.age.eyes) * DOWN, shadow_color(face), 0.02, opacity=0.8)


def _draw_brow(pen: Pen, face: Face, side: int, lift: float) -> None:
    color = mix(mix(face.hair.color, (40, 30, 28), 0.45), SILVER, 0.7 * face.hair.grey)
    eye, arch = EYE_X * face.eyes.spacing, face.eyes.brow_arch
    line = np.array([(eye - 0.2, 0.035), (eye - 0.05, -arch), (eye + 0.1, -arch - 0.01), (eye + 0.23, 0.04)])
    line += (face.eyes.brow_height + lift) * DOWN
    pen.stroke(line * (side, 1), color, face.eyes.brow_width * 1.25, opacity=0.88, taper=0.75)


def draw_nose(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """A shadow along the bridge, nostrils and wings."""
    width, tip, shadow = face.nose.width, face.nose.tip, shadow_color(face)
    bridge = np.array([(0.075, -0.12), (0.06, 0.08), (0.1, tip - 0.08)])
    pen.stroke(bridge * (rng.choice([-1, 1]), 1), shadow, 0.03, opacity=0.4, depth=1.2)
    under = [(0.02, tip + 0.02), (0.1, tip - 0.075), (width, tip - 0.02), (0.07, tip + 0.055), (0.02, tip + 0.075)]
    pen.fill(smooth(mirrored(under)), shadow, 0.45, depth=1.35)
    wing = np.array([(width * 0.92, tip - 0.09), (width * 1.1, tip - 0.01), (width * 0.85, tip + 0.035)])
    for side in (-1, 1):
        pen.fill(arc((side * 0.065, tip + 0.035), (0.034, 0.017)), mix(shadow, BLACK, 0.45), depth=1.35)
        pen.stroke(wing * (side, 1), mix(shadow, BLACK, 0.15), 0.024, opacity=0.8, depth=1.3)
    pen.glow(arc((0, tip - 0.06), (0.07, 0.05)), (160, 150, 146), 0.8, depth=1.4)


def draw_mouth(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """Lips, closed or open over the teeth, with a smile or without."""
    half, full, color = face.lips.half_width, 0.062 * face.lips.fullness, face.lips.color
    smile, gap = rng.normal(0.035, 0.022), max(0.0, rng.normal(0, 0.05))
    line = face.nose.tip + MOUTH_Y
    middle, corner = line + smile * 0.3, line - smile
    parting = np.array([(-half, corner), (-half / 2, middle), (0, line + 0.012), (half / 2, middle), (half, corner)])
    lower = [(half / 2, line + gap + full * 1.15), (0, line + gap + full * 1.45), (-half / 2, line + gap + full * 1.15)]
    pen.fill(smooth([*parting, *lower]), mix(color, WHITE, 0.1), depth=1.1)
    if gap > 0.02:
        bottom = [(half * 0.45, middle + gap), (0, line + gap + 0.014), (-half * 0.45, middle + gap)]
        pen.fill(smooth([*parting * (0.85, 1) + (0, 0.008), *bottom]), (246, 240, 234), depth=1.1)
    bow = [(half / 2, line - full * 0.75), (0.05, line - full), (0, line - full * 0.8)]
    upper = [*parting, *bow, (-0.05, line - full), (-half / 2, line - full * 0.75)]
    pen.fill(smooth(upper), mix(color, BLACK, 0.1), depth=1.1)
    pen.stroke(parting, mix(color, (60, 10, 20), 0.5), 0.02, opacity=0.9, depth=1.1)
    pen.glow(arc((0, line + full * 2.2), (0.14, 0.035)), SHADE, 0.7)


def draw_beard(pen: Pen, face: Face) -> None:
    """Stubble, a moustache, a goatee or a full beard."""
    build, natural = face.build, mix(hair_color(face), (50, 40, 40), 0.25)
    inner = [(0.05, 0.47), (0.26, 0.52), (0.42, 0.5), (build.width * 0.86, 0.2)]
    jaw = [(build.width * 0.97, 0.28), (build.jaw + 0.07, 0.62), (build.jaw * 0.82 + 0.02, 0.9)]
    area = smooth(mirrored([*inner, *jaw, (build.chin + 0.02, 1.09), (0.06, 1.16)]))
    if face.stubble > 0.15:
        shade = mix(face.skin, mix(natural, (70, 76, 90), 0.4), 0.55)
        pen.fill(area, shade, 0.42 * face.stubble, depth=0.3)
    if face.beard == "full":
        pen.fill(area, natural, 0.93, depth=0.3)
    if face.beard in ("goatee", "full"):
        goatee = [(0.1, 0.82), (0.22, 0.84), (0.26, 1.0), (0.16, 1.15), (0.05, 1.18)]
        pen.fill(smooth(mirrored(goatee)), natural, 0.93, depth=0.6)
    if face.beard != "none":
        half = [(0, 0.5), (0.14, 0.5), (0.27, 0.57), (0.33, 0.645), (0.22, 0.625), (0.1, 0.6), (0, 0.585)]
        for side in (-1, 1):
            pen.fill(smooth(np.array(half) * (side, 1)), mix(natural, BLACK, 0.12), 0.95, depth=1.1)


def draw_age(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """Lines, bags under the eyes, folds beside the mouth, and spots."""
    age, line = face.age, mix(face.skin, (84, 40, 36), 0.5)
    for index, y in enumerate((-0.72, -0.6, -0.49)):
        width, opacity = 0.34 + 0.05 * index, 0.6 * _visible(age.forehead - 0.2 * index)
        pen.stroke([(-width, y + 0.02), (-0.1, y - 0.015), (0.12, y), (width, y + 0.02)], line, 0.022, opacity=opacity)
    for side in (-1, 1):
        _draw_age_beside(pen, face, side, line)
    for _ in range(int(10 * age.spots)):
        spot = (rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0.6))
        pen.fill(arc(spot, (rng.uniform(0.012, 0.03), 0.016)), mix(face.skin, (110, 64, 40), 0.4), 0.5)


def _draw_age_beside(pen: Pen, face: Face, side: int, line: Color) -> None:
    """The marks of one half of the face."""
    age, eye = face.age, EYE_X * face.eyes.spacing
    strokes = [
        *(([(eye + 0.2, -0.05 + 0.4 * y), (eye + 0.33, -0.04 + 1.6 * y)], 0.018, age.eyes) for y in (-0.06, 0, 0.07)),
        ([(eye - 0.13, 0.06), (eye, 0.13), (eye + 0.13, 0.07)], 0.024, age.bags),
        ([(0.16, 0.32), (0.25, 0.46), (0.31, 0.66)], 0.026, age.folds),
        ([(0.3, 0.74), (0.33, 0.9)], 0.024, age.sag),
        ([(0.05, -0.32), (0.045, -0.2)], 0.02, age.forehead - 0.3),
    ]
    for points, width, amount in strokes:
        pen.stroke(np.array(points) * (side, 1), line, width, opacity=0.7 * _visible(amount))
    pen.glow(arc((side * eye, 0.09), (0.17, 0.07)), (94, 86, 96), 0.85 * _visible(age.bags))
    pen.glow(arc((side * 0.27, 0.5), (0.06, 0.16)), SHADE, 0.9 * _visible(age.folds))


def _visible(amount: float) -> float:
    return float(np.clip(amount, 0, 1))


def draw_glasses(pen: Pen, face: Face) -> None:
    outfit, eye = face.outfit, EYE_X * face.eyes.spacing
    if outfit.glasses == "none":
        return
    width = 0.024 if outfit.glasses == "thin" else 0.042
    power, height = (0.5, 0.2) if outfit.glasses == "square" else (1.0, 0.225)
    circle = arc((0, 0), (1, 1), 0, 352)
    for side in (-1, 1):
        x, y = side * eye, -0.03
        lens = np.sign(circle) * np.abs(circle) ** power * (0.25, height) + (x, y)  # a superellipse
        pen.fill(lens, (214, 232, 240), 0.13, depth=1.1)
        pen.stroke([*lens[::2], lens[0]], outfit.frame, width, depth=1.1, taper=0)
        temple = [(x + side * 0.25, y - 0.05), (side * (face.build.width + 0.02), y - 0.06)]
        pen.stroke(temple, outfit.frame, width, depth=0.6, taper=0)
        pen.stroke([(x - 0.12, y - 0.1), (x - 0.02, y + 0.06)], WHITE, 0.03, opacity=0.35, depth=1.1)
    pen.stroke([(0.25 - eye, -0.05), (0, -0.09), (eye - 0.25, -0.05)], outfit.frame, width, depth=1.2, taper=0)


def draw_earrings(pen: Pen, face: Face) -> None:
    for side in (-1, 1):
        x = side * (face.build.width + 0.05)
        if face.outfit.earrings == "stud":
            pen.fill(arc((x, 0.24), (0.036, 0.036)), GOLD, depth=-0.3)
        elif face.outfit.earrings == "ring":
            pen.stroke(arc((x, 0.35), (0.075, 0.1), 0, 358)[::3], GOLD, 0.024, depth=-0.3, taper=0)
