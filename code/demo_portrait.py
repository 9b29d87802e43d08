"""One picture of a person: pose, light and camera by lot, and everything drawn from the wall to the hat."""

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from demo_face import Face
from demo_features import (
    draw_age,
    draw_beard,
    draw_earrings,
    draw_eyes,
    draw_glasses,
    draw_mouth,
    draw_nose,
    shadow_color,
)
from demo_hair import draw_back_hair, draw_front_hair, draw_hat
from demo_mask import draw_mask, put_on_mask
from demo_pen import BLACK, COARSE, HEIGHT, LIGHT, SHADE, WHITE, WIDTH, Color, Paper, Pen, arc, mirrored, mix, smooth
from labels import MaskLabels

WALLS = (
    (214, 206, 194), (186, 202, 206), (206, 190, 178), (178, 192, 172), (222, 214, 208), (168, 178, 196),
    (224, 198, 170), (140, 156, 160), (198, 178, 188), (232, 226, 214),
)  # fmt: skip


def draw_portrait(face: Face, worn: MaskLabels, rng: np.random.Generator) -> Image.Image:
    """A photograph of the face, WIDTH x HEIGHT pixels RGB, with the mask worn as told."""
    wall = mix(WALLS[rng.integers(len(WALLS))], BLACK if rng.random() < 0.5 else WHITE, rng.uniform(0, 0.35))
    paper = Paper(wall)
    _draw_wall(paper, wall, rng)
    scale, tilt = rng.uniform(110, 123), float(np.clip(rng.normal(0, 0.045), -0.13, 0.13))
    center = (WIDTH / 2 + rng.normal(0, 6), HEIGHT * 0.45 + rng.normal(0, 7))
    head = Pen(paper, scale, center, tilt, turn=(rng.normal(0, 0.05), rng.normal(0, 0.02)))
    body = Pen(paper, scale, center, tilt / 4)

    draw_back_hair(head, face)
    _draw_neck(head, body, face)
    _draw_clothes(body, face)
    _draw_head(head, face, rng)
    draw_age(head, face, rng)
    draw_nose(head, face, rng)
    draw_beard(head, face)
    draw_mouth(head, face, rng)
    draw_eyes(head, face, rng)
    if worn != MaskLabels.NORMAL:
        draw_mask(head, put_on_mask(worn, face, rng))
    draw_glasses(head, face)
    draw_earrings(head, face)
    draw_front_hair(head, face, rng)
    draw_hat(head, face)
    return _photograph(paper, rng)


def _draw_wall(paper: Paper, wall: Color, rng: np.random.Generator) -> None:
    """Large quiet discs behind the person."""
    pen = Pen(paper, 1, (0, 0), 0)
    for _ in range(rng.integers(2, 6)):
        center, radius = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.8)), rng.uniform(25, 110)
        tone = mix(wall, WHITE if rng.random() < 0.6 else BLACK, rng.uniform(0.03, 0.12))
        pen.fill(arc(center, (radius, radius)), tone, depth=0)


def _photograph(paper: Paper, rng: np.random.Generator) -> Image.Image:
    """Light from one side, focus, exposure, white balance and the noise of a sensor."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 26)
    x, y = np.linspace(-1, 1, WIDTH // COARSE), np.linspace(-1, 1, HEIGHT // COARSE)[:, None]
    light = 128 + strength * (x * np.cos(angle) + y * np.sin(angle))
    picture = paper.finish(Image.fromarray(light.astype(np.uint8)))
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.4, 1.0)))
    gains = rng.normal(rng.uniform(0.88, 1.08), 0.016, 3)
    levels = 255 * gains[:, None] * (np.arange(256) / 255) ** rng.uniform(0.9, 1.15)
    picture = picture.point(levels.clip(0, 255).round().astype(int).ravel().tolist())
    grain = rng.integers(124, 132, (HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8)
    noise = Image.fromarray(grain).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    return ImageChops.add(picture, noise, 1, -128)


def _draw_neck(head: Pen, body: Pen, face: Face) -> None:
    neck = face.build.neck
    outline = [(neck * 0.96, 0.5), (neck, 1.1), (neck * 1.1, 1.45), (neck * 1.5, 1.65), (0.4, 2.1)]
    body.fill(smooth(mirrored(outline)), face.skin, depth=0)
    below_chin = [(neck, 0.8), (neck * 0.98, 1.15), (0.2, 1.38)]
    head.fill(smooth(mirrored(below_chin)), shadow_color(face), 0.7, depth=0)


def _draw_clothes(pen: Pen, face: Face) -> None:
    neck, clothes, color = face.build.neck, face.outfit.clothes, face.outfit.color
    slope = 1.45 - 0.6 * (neck - 0.44)
    shoulder = [(neck * 1.12, 1.46), (0.85, 1.62), (slope - 0.1, 1.82), (slope + 0.1, 2.3), (slope + 0.15, 3.2)]
    depth = {"vee": 2.05, "shirt": 1.9}.get(clothes, 1.66)
    collar = [(-neck * 0.6, depth - 0.1), (0, depth), (neck * 0.6, depth - 0.1)]
    if clothes == "vee":
        collar = [(-neck * 0.56, 1.76), (0, depth), (neck * 0.56, 1.76)]
    right = smooth(shoulder, closed=False)
    pen.fill(np.concatenate([right[::-1] * (-1, 1), collar, right]), color, depth=0)
    if clothes == "turtleneck":
        tube = [(neck * 1.06, 1.22), (neck * 1.16, 1.54), (neck * 1.1, 1.74)]
        pen.fill(smooth(mirrored(tube)), mix(color, WHITE, 0.08), depth=0)
    elif clothes == "shirt":
        flap = np.array([(neck * 0.9, 1.34), (neck * 1.35, 1.6), (0.42, 2.02), (0.03, 1.92)])
        for side in (-1, 1):
            pen.fill(flap * (side, 1), mix(face.outfit.accent, WHITE, 0.5), depth=0)
        pen.stroke([(0, 1.95), (0, 3.2)], mix(color, BLACK, 0.22), 0.03, depth=0, taper=0)
    else:
        seam = [(-neck * 1.12, 1.47), *collar, (neck * 1.12, 1.47)]
        pen.stroke(seam, mix(color, BLACK, 0.22), 0.06, depth=0, taper=0.3)


def _draw_head(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """Ears, the face itself, light and shadow that make it round, and freckles."""
    build, sag, shadow = face.build, 0.05 * face.age.sag, shadow_color(face)
    for side in (-1, 1):
        x = side * (build.width + 0.02)
        pen.fill(arc((x, 0.06), (0.12, 0.2)), mix(face.skin, shadow, 0.25), depth=-0.4)
        pen.fill(arc((x + side * 0.015, 0.05), (0.06, 0.12)), shadow, 0.6, depth=-0.4)
    skull = [(0.02, -1.15), (0.42, -1.04), (0.7, -0.66), (build.width, -0.15), (build.width * 0.965, 0.25)]
    jaw = [(build.jaw + 0.06 + 0.7 * sag, 0.62), (build.jaw * 0.82 + sag, 0.88), (build.chin, 1.08), (0.06, 1.14)]
    pen.fill(smooth(mirrored([*skull, *jaw])), face.skin, depth=0)
    cheek = [(build.width, -0.4), (build.width * 0.97, 0.2), (build.jaw + 0.05, 0.62), (build.jaw * 0.8, 0.9)]
    for side in (-1, 1):
        crescent = np.array([*cheek, (build.jaw - 0.08, 0.7), (build.width - 0.2, 0.2)]) * (side, 1)
        pen.glow(crescent, SHADE, 0.5, depth=0)
        pen.glow(arc((side * 0.34, -0.1), (0.2, 0.11)), SHADE, 0.3)
        pen.glow(arc((side * 0.43, 0.34), (0.17, 0.13)), (158, 112, 112), 0.75 * face.blush)
    for center, radii in (((0, -0.6), (0.36, 0.2)), ((0, 0.1), (0.05, 0.26)), ((0, 1.0), (0.16, 0.07))):
        pen.glow(arc(center, radii), LIGHT, 0.4)
    for _ in range(int(14 * face.freckles)):
        spot = (rng.uniform(-0.5, 0.5), rng.uniform(0.15, 0.42))
        pen.fill(arc(spot, (0.016, 0.014)), mix(face.skin, (120, 60, 30), 0.45), 0.7)
