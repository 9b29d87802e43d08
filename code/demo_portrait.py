"""One picture of a person: pose, light and camera by lot, and the face from the background to the glasses."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from demo_hair import draw_back_hair, draw_front_hair, draw_hat, hair_color
from demo_mask import draw_lots, draw_mask
from demo_pen import BLACK, COARSE, HEIGHT, LIGHT, SHADE, WHITE, WIDTH, Color, Paper, Pen, arc, mirrored, mix, smooth
from demo_people import SILVER, Face
from labels import MaskLabels

WALLS = (
    (214, 206, 194), (186, 202, 206), (206, 190, 178), (178, 192, 172), (222, 214, 208), (168, 178, 196), (224, 198, 170),
    (140, 156, 160), (198, 178, 188), (232, 226, 214),
)  # fmt: skip
LIP_LINE = 0.67


def draw_portrait(face: Face, worn: MaskLabels, rng: np.random.Generator) -> Image.Image:
    """A photograph of the face, WIDTH x HEIGHT pixels RGB, with the mask worn as told."""
    wall = WALLS[rng.integers(len(WALLS))]
    paper = Paper(mix(wall, BLACK if rng.random() < 0.5 else WHITE, rng.uniform(0, 0.35)))
    _draw_background(paper, wall, rng)
    scale = rng.uniform(110, 123)
    center = (WIDTH / 2 + rng.normal(0, 6), HEIGHT * 0.45 + rng.normal(0, 7))
    tilt, turn = float(np.clip(rng.normal(0, 0.045), -0.13, 0.13)), (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.02)))
    pen, body = Pen(paper, scale, center, tilt, turn), Pen(paper, scale, center, tilt * 0.25)
    sketch = Sketch(face, pen, body, rng)
    sketch.draw(worn)
    return _photograph(paper, rng)


def _draw_background(paper: Paper, wall: Color, rng: np.random.Generator) -> None:
    """Large soft shapes behind the person, out of focus."""
    pen = Pen(paper, 1, (0, 0), 0)
    for _ in range(rng.integers(2, 6)):
        center = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.8))
        tone = mix(wall, WHITE if rng.random() < 0.6 else BLACK, rng.uniform(0.03, 0.14))
        pen.fill(arc(center, (radius := rng.uniform(25, 110), radius)), tone, depth=0)


def _photograph(paper: Paper, rng: np.random.Generator) -> Image.Image:
    """Light from one side, focus, exposure, white balance and the noise of a sensor."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 26)
    x, y = np.linspace(-1, 1, WIDTH // COARSE), np.linspace(-1, 1, HEIGHT // COARSE)[:, None]
    light = 128 + strength * (x * np.cos(angle) + y * np.sin(angle))
    picture = paper.finish(Image.fromarray(np.repeat(light[..., None], 3, axis=2).astype(np.uint8)))
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.4, 1.0)))
    gains = rng.normal(rng.uniform(0.88, 1.08), 0.016, 3)
    levels = np.arange(256) / 255
    table = 255 * gains[:, None] * levels ** rng.uniform(0.9, 1.15)
    picture = picture.point(table.clip(0, 255).round().astype(int).ravel().tolist())
    return ImageChops.add(picture, _noise(rng), 1, -128)


def _noise(rng: np.random.Generator) -> Image.Image:
    grain = rng.integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8) >> 5
    return Image.fromarray(grain + np.uint8(124)).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


@dataclass(frozen=True)
class Sketch:
    """A face with the pens for its head and its body."""

    face: Face
    pen: Pen
    body: Pen
    rng: np.random.Generator

    def draw(self, worn: MaskLabels) -> None:
        """From back to front."""
        draw_back_hair(self.pen, self.face)
        self.draw_body()
        self.draw_head()
        self.draw_age()
        self.draw_nose()
        self.draw_mouth()
        self.draw_beard()
        self.draw_eyes()
        if worn != MaskLabels.NORMAL:
            draw_mask(self.pen, draw_lots(worn, self.face.width, self.rng))
        self.draw_glasses()
        self.draw_earrings()
        draw_front_hair(self.pen, self.face, self.rng)
        draw_hat(self.pen, self.face)

    @property
    def shadow(self) -> Color:
        return mix(self.face.skin, (90, 40, 40), 0.3)

    def draw_body(self) -> None:
        face, pen, color = self.face, self.body, self.face.clothes_color
        neck = [(face.neck * 0.96, 0.5), (face.neck, 1.1), (face.neck * 1.1, 1.45), (face.neck * 1.5, 1.65), (0.4, 2.1)]
        pen.fill(smooth(mirrored(neck)), face.skin, depth=0)
        self.pen.fill(smooth(mirrored([(face.neck, 0.8), (face.neck * 0.98, 1.15), (0.2, 1.38)])), self.shadow, 0.7, depth=0)
        top = 1.46
        slope = 1.45 - 0.6 * (face.neck - 0.44)
        shoulder = [(face.neck * 1.12, top), (0.85, 1.62), (slope - 0.1, 1.82), (slope + 0.1, 2.3), (slope + 0.15, 3.2)]
        cut = {"vee": 2.05, "shirt": 1.9}.get(face.clothes, 1.66)
        opening = [(-face.neck * 0.6, cut - 0.16 if face.clothes != "vee" else 1.76), (0, cut), (face.neck * 0.6, cut - 0.16 if face.clothes != "vee" else 1.76)]
        left = np.array(shoulder[::-1]) * (-1, 1)
        outline = np.concatenate([left, opening, shoulder])
        pen.fill(np.concatenate([smooth(left, closed=False), np.array(opening), smooth(shoulder, closed=False)]), color, depth=0)
        dark = mix(color, BLACK, 0.22)
        if face.clothes == "turtleneck":
            collar = [(face.neck * 1.06, 1.22), (face.neck * 1.16, 1.54), (face.neck * 1.1, 1.74)]
            pen.fill(smooth(mirrored(collar)), mix(color, WHITE, 0.08), depth=0)
        elif face.clothes == "shirt":
            for side in (-1, 1):
                flap = np.array([(face.neck * 0.9, 1.34), (face.neck * 1.35, 1.6), (0.42, 2.02), (0.03, 1.92)]) * (side, 1)
                pen.fill(flap, mix(face.accent, WHITE, 0.5), depth=0)
            pen.stroke([(0, 1.95), (0, 2.5), (0, 3.2)], dark, 0.03, depth=0, taper=0)
        else:
            pen.stroke([(-face.neck * 1.12, top), *opening, (face.neck * 1.12, top)] if face.clothes == "vee" else [(-face.neck * 1.12, top + 0.02), (-face.neck * 0.6, cut - 0.1), (0, cut), (face.neck * 0.6, cut - 0.1), (face.neck * 1.12, top + 0.02)], dark, 0.06, depth=0, taper=0.3)
        del outline

    def draw_head(self) -> None:
        face, pen = self.face, self.pen
        for side in (-1, 1):
            ear = (side * (face.width + 0.02), 0.06)
            pen.fill(arc(ear, (0.12, 0.2)), mix(face.skin, self.shadow, 0.25), depth=-0.4)
            pen.fill(arc((ear[0] + side * 0.015, 0.05), (0.06, 0.12)), self.shadow, 0.6, depth=-0.4)
        sag = 0.05 * face.age.sag
        half = [
            (0.02, -1.15), (0.42, -1.04), (0.7, -0.66), (face.width, -0.15), (face.width * 0.965, 0.25),
            (face.jaw + 0.06 + sag * 0.7, 0.62), (face.jaw * 0.82 + sag, 0.88), (face.chin, 1.08), (0.06, 1.14),
        ]  # fmt: skip
        pen.fill(smooth(mirrored(half)), face.skin, depth=0)
        self.glow_face()
        for _ in range(int(14 * face.freckles)):
            spot = (self.rng.uniform(-0.5, 0.5), self.rng.uniform(0.15, 0.42))
            pen.fill(arc(spot, (0.016, 0.014)), mix(face.skin, (120, 60, 30), 0.45), 0.7)

    def glow_face(self) -> None:
        """Roundness and warmth: light on the forehead and the nose, shadow at the sides, red cheeks."""
        pen, face = self.pen, self.face
        for side in (-1, 1):
            cheek = [(face.width, -0.4), (face.width * 0.97, 0.2), (face.jaw + 0.05, 0.62), (face.jaw * 0.8, 0.9), (face.jaw - 0.08, 0.7), (face.width - 0.2, 0.2)]
            pen.glow(np.array(cheek) * (side, 1), SHADE, 0.5, depth=0)
            pen.glow(arc((side * 0.43, 0.34), (0.17, 0.13)), (158, 112, 112), 0.75 * face.blush)
            pen.glow(arc((side * 0.34, -0.1), (0.2, 0.11)), (108, 104, 110), 0.5)
        pen.glow(arc((0, -0.6), (0.36, 0.2)), (146, 144, 142), 0.8)
        pen.glow(arc((0, 0.1), (0.05, 0.26)), (152, 149, 146), 0.8)
        pen.glow(arc((0, 1.0), (0.16, 0.07)), (144, 142, 140), 0.6)

    def draw_age(self) -> None:
        """Lines, bags under the eyes and spots."""
        pen, age, rng, face = self.pen, self.face.age, self.rng, self.face
        line = mix(face.skin, (84, 40, 36), 0.5)
        for index, y in enumerate((-0.72, -0.6, -0.49)):
            width = 0.34 + 0.05 * index
            pen.stroke([(-width, y + 0.02), (-0.1, y - 0.015), (0.12, y), (width, y + 0.02)], line, 0.022, opacity=0.6 * _fade(age.forehead, 0.2 * index))
        for side in (-1, 1):
            eye = 0.34 * face.eye_spacing
            for spread in (-0.06, 0.0, 0.07):
                pen.stroke([(side * (eye + 0.2), -0.05 + spread * 0.4), (side * (eye + 0.33), -0.04 + spread * 1.6)], line, 0.018, opacity=0.65 * _fade(age.eyes))
            bag = [(side * (eye - 0.13), 0.06), (side * eye, 0.13), (side * (eye + 0.13), 0.07)]
            pen.stroke(bag, line, 0.024, opacity=0.55 * _fade(age.bags))
            pen.glow(arc((side * eye, 0.09), (0.17, 0.07)), (92, 82, 98), 0.9 * _fade(age.bags))
            fold = [(side * 0.16, 0.32), (side * 0.25, 0.46), (side * 0.31, 0.66)]
            pen.stroke(fold, line, 0.026, opacity=0.65 * _fade(age.folds))
            pen.glow(arc((side * 0.27, 0.5), (0.06, 0.16)), (94, 88, 90), 0.9 * _fade(age.folds))
            pen.stroke([(side * 0.3, 0.74), (side * 0.33, 0.9)], line, 0.024, opacity=0.6 * _fade(age.sag))
            pen.stroke([(side * 0.05, -0.32), (side * 0.045, -0.2)], line, 0.02, opacity=0.5 * _fade(age.forehead, 0.3))
        for _ in range(int(10 * age.spots)):
            spot = (rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0.6))
            pen.fill(arc(spot, (rng.uniform(0.012, 0.03), 0.016)), mix(face.skin, (110, 64, 40), 0.4), 0.5)

    def draw_eyes(self) -> None:
        face, pen, rng = self.face, self.pen, self.rng
        gaze, open_by = rng.normal(0, 0.018), float(np.clip(rng.normal(1, 0.08), 0.75, 1.15))
        brow_lift = rng.normal(0, 0.012)
        lash = mix((34, 24, 24), face.skin, 0.12)
        for side in (-1, 1):
            x0, y0 = side * 0.34 * face.eye_spacing, -0.06
            half, height = 0.185 * face.eye_size, 0.1 * face.eye_size**2 * open_by * (1 - 0.18 * face.age.eyes)
            t = np.linspace(-1, 1, 13)
            x = x0 + side * half * t
            slant = -face.eye_slant * t * half
            upper = y0 + slant - height * (1 - np.abs(t + 0.12) ** 2.2 * 0.8).clip(0)
            lower = y0 + slant + 0.72 * height * (1 - t**2)
            upper = np.minimum(upper, lower)
            pen.fill(np.concatenate([np.stack([x, upper - 0.075], 1), np.stack([x, upper], 1)[::-1]]), mix(face.skin, face.accent, 0.25), face.eye_shadow)
            pen.fill(np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]]), (247, 243, 238))
            ball = arc((x0 + gaze, y0 - 0.012), (0.096, 0.096))
            for radius, color in ((1.0, mix(face.iris, BLACK, 0.35)), (0.86, face.iris), (0.45, (18, 14, 14))):
                disc = (ball - (x0 + gaze, y0 - 0.012)) * radius + (x0 + gaze, y0 - 0.012)
                order = np.argsort(x)
                disc[:, 1] = np.clip(disc[:, 1], np.interp(disc[:, 0], x[order], upper[order]), np.interp(disc[:, 0], x[order], lower[order]))
                pen.fill(disc, color)
            pen.fill(arc((x0 + gaze + 0.03, y0 - 0.042), (0.02, 0.02)), WHITE, 0.9)
            lid = np.stack([x, upper - 0.006], 1)
            pen.stroke(lid[::2], lash, 0.026 + 0.03 * face.lashes, taper=0.6)
            if face.lashes > 0.5:
                tip = lid[-1]
                pen.stroke([lid[-3], tip, tip + (side * 0.05, -0.045)], lash, 0.03 * face.lashes)
            pen.stroke(np.stack([x, lower + 0.004], 1)[::2], lash, 0.014, opacity=0.55)
            pen.stroke(np.stack([x, upper - 0.05 + 0.02 * face.age.eyes], 1)[::3], self.shadow, 0.02, opacity=0.8)
            self.draw_brow(side, x0, -0.3 + face.brow_height + brow_lift)

    def draw_brow(self, side: int, x0: float, y0: float) -> None:
        face = self.face
        color = mix(mix(face.hair.color, (40, 30, 28), 0.45), SILVER, 0.6 * face.hair.grey)
        arch = face.brow_arch
        line = [(x0 - side * 0.2, y0 + 0.035), (x0 - side * 0.05, y0 - arch), (x0 + side * 0.1, y0 - arch - 0.01), (x0 + side * 0.23, y0 + 0.04)]
        self.pen.stroke(line, color, face.brow_width * 1.25, opacity=0.88, taper=0.75)

    def draw_nose(self) -> None:
        pen, face = self.pen, self.face
        width, tip = face.nose_width, face.nose_length
        tone = self.shadow
        side = 1 if self.rng.random() < 0.5 else -1
        pen.stroke([(side * 0.075, -0.12), (side * 0.06, 0.08), (side * 0.1, tip - 0.08)], tone, 0.03, opacity=0.4, depth=1.2)
        pen.fill(smooth([(-width, tip - 0.02), (-0.1, tip - 0.075), (0, tip + 0.02), (0.1, tip - 0.075), (width, tip - 0.02), (0.07, tip + 0.055), (0, tip + 0.075), (-0.07, tip + 0.055)]), tone, 0.45, depth=1.35)
        for nostril in (-1, 1):
            pen.fill(arc((nostril * 0.065, tip + 0.035), (0.034, 0.017)), mix(tone, BLACK, 0.45), depth=1.35)
            pen.stroke([(nostril * width * 0.92, tip - 0.09), (nostril * width * 1.1, tip - 0.01), (nostril * width * 0.85, tip + 0.035)], mix(tone, BLACK, 0.15), 0.024, opacity=0.8, depth=1.3)
        pen.glow(arc((0, tip - 0.06), (0.07, 0.05)), (160, 150, 146), 0.8, depth=1.4)

    def draw_mouth(self) -> None:
        pen, face, rng = self.pen, self.face, self.rng
        half, full = face.mouth_width, 0.062 * face.lip_fullness
        smile = float(rng.normal(0.035, 0.022))
        gap = max(0.0, float(rng.normal(0.0, 0.05)))
        line = LIP_LINE + (face.nose_length - 0.36)
        corner = line - smile
        dark = mix(face.lip_color, (60, 10, 20), 0.5)
        upper = [(-half, corner), (-half * 0.5, line - full * 0.75), (-0.05, line - full), (0, line - full * 0.8), (0.05, line - full), (half * 0.5, line - full * 0.75), (half, corner), (half * 0.5, line + smile * 0.3), (0, line + 0.012), (-half * 0.5, line + smile * 0.3)]
        lower = [(-half * 0.97, corner + 0.005), (-half * 0.5, line + smile * 0.3), (0, line + 0.012), (half * 0.5, line + smile * 0.3), (half * 0.97, corner + 0.005), (half * 0.5, line + gap + full * 1.15), (0, line + gap + full * 1.45), (-half * 0.5, line + gap + full * 1.15)]
        pen.fill(smooth(lower), mix(face.lip_color, WHITE, 0.1), depth=1.1)
        if gap > 0.02:
            opening = [(-half * 0.85, corner + 0.012), (0, line + 0.005), (half * 0.85, corner + 0.012), (half * 0.45, line + gap + smile * 0.3), (0, line + gap + 0.014), (-half * 0.45, line + gap + smile * 0.3)]
            pen.fill(smooth(opening), (246, 240, 234), depth=1.1)
        pen.fill(smooth(upper), mix(face.lip_color, BLACK, 0.1), depth=1.1)
        pen.stroke([(-half, corner), (-half * 0.5, line + smile * 0.3), (0, line + 0.012), (half * 0.5, line + smile * 0.3), (half, corner)], dark, 0.02, opacity=0.9, depth=1.1)
        pen.glow(arc((0, line + full * 2.2), (0.14, 0.035)), (98, 92, 92), 0.7)

    def draw_beard(self) -> None:
        face, pen = self.face, self.pen
        color = mix(hair_color(face), (50, 40, 40), 0.25)
        jaw = [(face.width * 0.97, 0.28), (face.jaw + 0.07, 0.62), (face.jaw * 0.82 + 0.02, 0.9), (face.chin + 0.02, 1.09), (0.06, 1.16)]
        inner = [(0.05, 0.47), (0.26, 0.52), (0.42, 0.5), (face.width * 0.86, 0.2)]
        area = smooth(mirrored([*inner[::1], *jaw]))
        if face.stubble > 0.15:
            pen.fill(area, mix(face.skin, mix(color, (70, 76, 90), 0.4), 0.55), 0.42 * face.stubble, depth=0.3)
        if face.beard == "full":
            pen.fill(area, color, 0.93, depth=0.3)
        if face.beard in ("goatee", "full"):
            pen.fill(smooth(mirrored([(0.1, 0.82), (0.22, 0.84), (0.26, 1.0), (0.16, 1.15), (0.05, 1.18)])), color, 0.93, depth=0.6)
        if face.beard != "no":
            for side in (-1, 1):
                half = np.array([(0.0, 0.5), (0.14, 0.5), (0.27, 0.57), (0.33, 0.645), (0.22, 0.625), (0.1, 0.6), (0.0, 0.585)]) * (side, 1)
                pen.fill(smooth(half), mix(color, BLACK, 0.12), 0.95, depth=1.1)
            if face.beard == "full":
                self.draw_mouth()

    def draw_glasses(self) -> None:
        face, pen = self.face, self.pen
        if face.glasses == "no":
            return
        color, width = face.glasses_color, 0.024 if face.glasses == "thin" else 0.042
        power = 0.5 if face.glasses == "square" else 1.0
        for side in (-1, 1):
            center = np.array([side * 0.345 * face.eye_spacing, -0.03])
            ring = arc((0, 0), (1, 1), 0, 352)
            ring = np.sign(ring) * np.abs(ring) ** power * (0.25, 0.2 if power < 1 else 0.225) + center
            pen.fill(ring, (214, 232, 240), 0.13, depth=1.1)
            pen.stroke(np.concatenate([ring[::2], ring[:1]]), color, width, depth=1.1, taper=0)
            pen.stroke([center + (side * 0.25, -0.05), (side * (face.width + 0.02), -0.09)], color, width, depth=0.6, taper=0)
            pen.stroke([center + (-0.12, -0.1), center + (-0.02, 0.06)], WHITE, 0.03, opacity=0.35, depth=1.1)
        inner = 0.345 * face.eye_spacing - 0.25
        pen.stroke([(-inner, -0.05), (0, -0.09), (inner, -0.05)], color, width, depth=1.2, taper=0)

    def draw_earrings(self) -> None:
        face, gold = self.face, (222, 190, 110)
        for side in (-1, 1) if face.earrings != "no" else ():
            x = side * (face.width + 0.05)
            if face.earrings == "stud":
                self.pen.fill(arc((x, 0.24), (0.036, 0.036)), gold, depth=-0.3)
            else:
                self.pen.stroke(arc((x, 0.35), (0.075, 0.1), 0, 358)[::3], gold, 0.024, depth=-0.3, taper=0)


def _fade(amount: float, threshold: float = 0.0) -> float:
    """How visible a mark is that starts to show at `threshold`."""
    return float(np.clip(amount - threshold, 0, 1))
