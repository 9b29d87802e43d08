"""Hair and hats of the demo's faces: what lies behind the head, and what lies on it and frames the face."""

import numpy as np

from demo_face import SILVER, Face
from demo_pen import BLACK, DOWN, LIGHT, WHITE, Color, Curve, Pen, arc, mirrored, mix, smooth

SKULL, CROWN = -0.28, 0.88  # height of the middle of the skull, and from there to its top


def hair_color(face: Face) -> Color:
    return mix(face.hair.color, SILVER, 0.88 * face.hair.grey)


def draw_back_hair(pen: Pen, face: Face) -> None:
    """What is seen behind neck and head: long hair, a bun, a tail."""
    hair, color = face.hair, mix(hair_color(face), BLACK, 0.1)
    if hair.gathered == "bun":
        knot = (0.1 * hair.side, -1.3)
        pen.fill(arc(knot, (0.36, 0.32)), color, depth=-0.5)
        for radius in (0.12, 0.24):
            coil = arc(knot, (radius, radius), 150, 330)[::3]
            pen.stroke(coil, mix(color, WHITE, 0.15), 0.03, depth=-0.5)
    elif hair.gathered == "tail":
        tail = np.array([(0.3, -0.6), (0.95, -0.5), (1.12, 0.3), (1.02, 1.2), (0.82, 1.5), (0.78, 0.9), (0.7, 0.2)])
        pen.fill(smooth(tail * (hair.side, 1)), color, depth=-0.3)
        pen.stroke(tail[1:5] * (0.95 * hair.side, 1), mix(color, WHITE, 0.12), 0.05, depth=-0.3)
    elif hair.length:
        pen.fill(_outline(face), color, depth=0.25)
        width, ends = face.build.width, hair.length
        nape = [(0.4, 0.3), (width - 0.02, 0.3), (width - 0.1, 0.9 * ends), (0.3, ends - 0.05)]
        pen.fill(smooth(mirrored(nape)), mix(color, BLACK, 0.35), depth=0)


def draw_front_hair(pen: Pen, face: Face, rng: np.random.Generator) -> None:
    """What lies on the head and frames the face."""
    hair, color = face.hair, hair_color(face)
    if hair.bald:
        for side in (-1, 1):
            patch = [(0.78, -0.62), (0.83, -0.3), (0.83, 0.05), (0.76, 0.12), (0.73, -0.2), (0.7, -0.5)]
            pen.fill(smooth(np.array(patch) * (side * face.build.width / 0.77, 1)), color, 0.9, depth=0.1)
        pen.glow(arc((0.15 * hair.side, -0.9), (0.28, 0.12)), LIGHT, 0.8)
        return
    outer, line = _outline(face), _hairline(face)
    shaved = hair.volume < 0.05 and not hair.length
    pen.fill(np.concatenate([outer, _inner_edge(face, line)]), color, 0.86 if shaved else 1, depth=0.25)
    line = smooth(line, closed=False)
    _draw_strands(pen, face, line, rng)
    if hair.curly:
        _draw_curls(pen, outer[2:-2], color, 0.14 + 0.25 * hair.volume, rng)
        _draw_curls(pen, outer[2:-2] * (0.8, 0.88) - 0.06 * DOWN, color, 0.16, rng)
        _draw_curls(pen, line[4:-4] - 0.05 * DOWN, color, 0.1, rng)
    elif hair.front == "quiff":
        for x in (-0.36, -0.16, 0.04, 0.24, 0.42):
            tuft = [(x * 0.9, -0.84), (x + 0.02 * hair.side, -1.02), (x * 0.9 + 0.14 * hair.side, -1.17 - hair.volume)]
            pen.stroke(tuft, mix(color, WHITE, rng.uniform(0.02, 0.16)), 0.17, depth=0.3)
    pen.glow(arc((0.2 * hair.side, -0.98), (0.4, 0.12)), LIGHT, 0.6, depth=0.25)


def _edge(face: Face) -> float:
    """Half the width of the hair at the ears."""
    return face.build.width + 0.05 + face.hair.volume * 0.6


def _is_open(face: Face) -> bool:
    """Whether hair falls down beside the face."""
    return face.hair.length > 0 and face.hair.gathered == "no"


def _outline(face: Face) -> Curve:
    """The outer edge of the hair, from the end on the right over the crown to the end on the left."""
    hair, edge = face.hair, _edge(face)
    lift = 0.08 if hair.front == "quiff" else 0
    crown = arc((0, SKULL), (edge, CROWN + hair.volume + lift), 0, -180)
    if not _is_open(face):
        return np.concatenate([[(face.build.width + 0.03, 0.16)], crown, [(-face.build.width - 0.03, 0.16)]])
    width, ends = face.build.width, hair.length
    side = [
        (width - 0.14, ends),
        (edge - 0.08, ends),
        (edge + 0.06, 0.8 * ends),
        (edge + 0.07, 0.4 * ends),
        (edge, SKULL),
    ]
    right = smooth(side, closed=False)
    return np.concatenate([right, crown[1:-1], right[::-1] * (-1, 1)])


def _inner_edge(face: Face, hairline: Curve) -> Curve:
    """Where hair meets the face: up on the left, along the hairline, down on the right."""
    width, ends = face.build.width - 0.1, face.hair.length
    side = [(width + 0.03, -0.3), (width + 0.03, -0.05), (width + 0.06, 0.12)]
    if _is_open(face):
        side = [
            (width, -0.2),
            (width, 0.2),
            (width - 0.03, 0.55 * ends),
            (width - 0.08, 0.85 * ends),
            (width - 0.04, ends),
        ]
    left = smooth([*(np.array(side) * (-1, 1))[:0:-1], *hairline[:2]], closed=False)
    right = smooth([*hairline[-2:], *side[1:]], closed=False)
    return np.concatenate([left, smooth(hairline, closed=False)[6:-6], right])


def _hairline(face: Face) -> Curve:
    """Where hair ends on the forehead, from the left temple to the right one."""
    hair, width, back = face.hair, face.build.width, face.hair.recession
    if hair.front == "bangs":
        return mirrored([(width - 0.1, -0.22), (0.4, -0.32), (0.12, -0.35)])[::-1]
    if hair.front == "curtains":
        line = mirrored([(width - 0.1, -0.12), (0.56, -0.42), (0.3, -0.72), (0.04, -1.0)])[::-1]
        line[3:5, 0] += 0.16 * hair.side
        return line
    if hair.front == "swept":
        sweep = [(0.11 - width, -0.3), (-0.42, -0.5), (-0.02, -0.6 - 0.12 * back), (0.3, -0.76 - 0.12 * back)]
        line = np.array([*sweep, (0.44, -0.92 - 0.12 * back), (0.56, -0.66), (width - 0.09, -0.34)])
        return line if hair.side > 0 else (line * (-1, 1))[::-1]
    middle = -0.76 - 0.12 * back
    temple = (0.47, -0.64 - 0.26 * back)
    return mirrored([(width - 0.08, -0.36), temple, (0.24, middle + 0.02), (0.06, middle)])[::-1]


def _draw_strands(pen: Pen, face: Face, line: Curve, rng: np.random.Generator) -> None:
    """Lighter and darker strands, grey ones with age: from the crown to the forehead, and down beside the face."""
    hair, width = face.hair, face.build.width
    for share in np.linspace(0.06, 0.94, 15):
        end = line[int(share * (len(line) - 1))]
        start = (-np.cos(np.pi * share) * width * 0.85, SKULL - CROWN * 0.98 * np.sin(np.pi * share))
        bend = ((start[0] + end[0]) / 2 * 1.08, (start[1] + end[1]) / 2 - 0.04)
        pen.stroke([start, bend, end], _strand_color(face, rng), rng.uniform(0.025, 0.06), opacity=0.7, depth=0.25)
    for side in (-1, 1) if _is_open(face) else ():
        for inset in (0.08, 0.0, -0.08):
            x = width - inset
            strand = np.array([(x, -0.3), (x + 0.04, 0.4 * hair.length), (x, 0.9 * hair.length)]) * (side, 1)
            pen.stroke(strand, _strand_color(face, rng), rng.uniform(0.025, 0.05), opacity=0.7, depth=0.1)


def _strand_color(face: Face, rng: np.random.Generator) -> Color:
    if rng.random() < face.hair.grey:
        return mix(hair_color(face), SILVER, rng.uniform(0.3, 0.6))
    return mix(hair_color(face), WHITE if rng.random() < 0.5 else BLACK, rng.uniform(0.06, 0.18))


def _draw_curls(pen: Pen, edge: Curve, color: Color, radius: float, rng: np.random.Generator) -> None:
    """Curls along an edge of the hair."""
    way = np.hypot(*np.diff(edge, axis=0).T).cumsum()
    places = edge[np.searchsorted(way, np.linspace(0, 0.999, max(2, int(way[-1] / radius))) * way[-1])]
    for x, y in places + rng.normal(0, 0.2 * radius, places.shape):
        size = radius * rng.uniform(0.8, 1.2)
        tone = mix(color, WHITE if rng.random() < 0.5 else BLACK, rng.uniform(0, 0.08))
        pen.fill(arc((x, y), (size, size)), tone, depth=0.25)
        shine = arc((x, y), (size * 0.6, size * 0.6), 190, 320)[::2]
        pen.stroke(shine, mix(color, WHITE, 0.13), 0.022, depth=0.25)


def draw_hat(pen: Pen, face: Face) -> None:
    """A cap or a beanie, over whatever hair there is."""
    color, width = face.outfit.accent, _edge(face) + 0.03
    crown = arc((0, -0.55), (width, 0.8), 0, -180)
    if face.outfit.hat == "beanie":
        pen.fill(arc((0, -1.4), (0.17, 0.15)), mix(color, WHITE, 0.35), depth=0.25)
        pen.fill(crown, color, depth=0.25)
        for x in np.linspace(-0.85, 0.85, 9) * width:
            pen.stroke([(x, -0.6), (x * 0.75, -1.05), (x * 0.2, -1.33)], mix(color, BLACK, 0.12), 0.03, depth=0.25)
        lower, upper = arc((0, -0.55), (width + 0.02, 0.1), 180, 0), arc((0, -0.74), (width - 0.02, 0.1), 0, 180)
        pen.fill(np.concatenate([lower, upper]), mix(color, BLACK, 0.16), depth=0.25)
    elif face.outfit.hat == "cap":
        pen.fill(crown, color, depth=0.25)
        for x in (-0.3, 0.3):
            pen.stroke([(x * 1.6, -0.6), (x * 1.2, -1.0), (0, -1.34)], mix(color, BLACK, 0.14), 0.02, depth=0.25)
        brim = [(0.1, -0.7), (0.5, -0.67), (0.76, -0.53), (0.55, -0.38), (0.1, -0.31)]
        pen.fill(smooth(mirrored(brim)), mix(color, BLACK, 0.35), depth=0.6)
        pen.stroke([(-0.66, -0.6), (0, -0.72), (0.66, -0.6)], mix(color, BLACK, 0.55), 0.025, depth=0.5)
    if face.outfit.hat != "none":
        pen.glow(arc((0.2, -1.05), (0.3, 0.16)), LIGHT, 0.5, depth=0.25)
