"""Who is drawn: the traits of a face, drawn by lot around what is usual for a gender and an age.

Every trait overlaps between the groups, so none decides alone, and each has its own chance: a woman with short hair, a
man with long lashes, a grey young head, a smooth old one. Skin, hair and eye colour, clothes, glasses and hats say
nothing about gender; only greying and wrinkles, hair and the shape of the face say something about age.
"""

import math
from dataclasses import dataclass

import numpy as np

from demo_pen import Color, mix
from labels import GenderLabels

SKINS = (
    (255, 224, 200), (246, 209, 178), (239, 196, 160), (229, 180, 140), (214, 160, 118), (190, 134, 94), (158, 106, 72),
    (126, 82, 56), (98, 64, 46),
)  # fmt: skip
HAIRS = (
    (30, 26, 28), (44, 34, 32), (58, 42, 36), (78, 54, 40), (104, 70, 46), (132, 88, 54), (122, 62, 40), (168, 122, 72),
    (204, 164, 104), (156, 78, 46),
)  # fmt: skip
FANCY_HAIRS = ((214, 92, 128), (92, 120, 190), (118, 84, 160), (70, 150, 146))
IRISES = ((62, 42, 30), (84, 58, 36), (112, 80, 44), (84, 104, 72), (82, 118, 148), (104, 128, 140))
LIPS = ((178, 52, 66), (196, 82, 92), (156, 44, 78), (210, 104, 88))
CLOTHES = (
    (52, 64, 92), (196, 74, 64), (236, 232, 222), (58, 110, 104), (228, 174, 72), (112, 84, 126), (70, 74, 80), (140, 170, 190),
    (206, 140, 132), (122, 138, 88), (36, 40, 48), (232, 206, 176),
)  # fmt: skip
SILVER = (206, 206, 208)


@dataclass(frozen=True)
class Hair:
    """Hair on the head: `length` is where it ends below the eyes, 0 for short; `recession` how far it has drawn back."""

    color: Color
    grey: float
    length: float
    volume: float
    front: str  # natural, swept, bangs, curtains, quiff
    curly: bool
    gathered: str  # no, bun, tail
    recession: float
    side: int  # -1 or 1: where the parting is
    bald: bool


@dataclass(frozen=True)
class Age:
    """The marks of age, each 0 to 1 or a little more."""

    forehead: float
    eyes: float  # crow's feet
    bags: float
    folds: float  # from the nose to the corners of the mouth
    sag: float
    spots: float


@dataclass(frozen=True)
class Face:
    """Everything that the pictures of one person have in common."""

    skin: Color
    hair: Hair
    age: Age
    width: float
    jaw: float
    chin: float
    eye_size: float
    eye_spacing: float
    eye_slant: float
    iris: Color
    lashes: float
    eye_shadow: float
    brow_width: float
    brow_arch: float
    brow_height: float
    nose_width: float
    nose_length: float
    lip_fullness: float
    lip_color: Color
    mouth_width: float
    stubble: float
    beard: str  # no, moustache, goatee, full
    neck: float
    blush: float
    freckles: float
    glasses: str  # no, round, square, thin
    glasses_color: Color
    earrings: str  # no, stud, ring
    hat: str  # no, cap, beanie
    clothes: str  # crew, vee, shirt, turtleneck
    clothes_color: Color
    accent: Color  # of hat and collar


def draw_face(gender: GenderLabels, years: int, rng: np.random.Generator) -> Face:
    """Draw the traits of a person of this gender and apparent age by lot."""
    woman = gender == GenderLabels.FEMALE
    sign = 1 if woman else -1
    looks = years + rng.normal(0, 2.5)  # some people look younger or older than they are

    def lean(difference: float) -> float:
        """A standard normal whose mean for women lies `difference` above that for men."""
        return float(rng.normal(sign * difference / 2, 1))

    def ageing(start: float, span: float, spread: float) -> float:
        return float(np.clip((looks - start) / span + rng.normal(0, spread), 0, 1.2))

    skin = _between(rng, SKINS)
    hair = _draw_hair(woman, looks, lean(0.5), rng)
    made_up = rng.random() < (0.6 if woman else 0.03)
    return Face(
        skin=skin,
        hair=hair,
        age=Age(
            forehead=ageing(27, 34, 0.15),
            eyes=ageing(27, 34, 0.15),
            bags=ageing(23, 40, 0.16),
            folds=ageing(25, 34, 0.14),
            sag=ageing(36, 32, 0.16),
            spots=ageing(44, 32, 0.2),
        ),
        width=0.765 - 0.012 * lean(0.9),
        jaw=0.575 - 0.032 * lean(1.8),
        chin=0.27 - 0.035 * lean(1.7),
        eye_size=1.0 + 0.05 * lean(1.1) - 0.0036 * (looks - 35),
        eye_spacing=1.0 + 0.03 * rng.normal(),
        eye_slant=float(rng.normal(0.05, 0.06)) - 0.0016 * (looks - 35),
        iris=IRISES[rng.integers(len(IRISES))],
        lashes=float(np.clip(0.35 + 0.22 * lean(2) + 0.3 * made_up, 0, 1.2)),
        eye_shadow=float(made_up * rng.uniform(0.15, 0.7)),
        brow_width=float(np.clip(0.066 - 0.013 * lean(2) - 0.0001 * (looks - 35), 0.03, 0.11)),
        brow_arch=0.035 + 0.018 * lean(0.9),
        brow_height=0.0 - 0.018 * lean(0.8),
        nose_width=0.155 - 0.012 * lean(0.7) + 0.0003 * (looks - 35),
        nose_length=0.36 + 0.02 * rng.normal() + 0.0006 * (looks - 35),
        lip_fullness=float(np.clip(1 + 0.13 * lean(0.9) - 0.009 * (looks - 35), 0.45, 1.5)),
        lip_color=_lip_color(skin, made_up, rng),
        mouth_width=0.255 + 0.018 * rng.normal(),
        stubble=0.0 if woman else float(np.clip(rng.normal(0.4, 0.3), 0, 1)),
        beard="no" if woman else str(rng.choice(["no", "moustache", "goatee", "full"], p=[0.62, 0.09, 0.11, 0.18])),
        neck=0.44 - 0.032 * lean(1.9),
        blush=float(np.clip(rng.normal(0.5 - 0.009 * (looks - 35), 0.2), 0, 1)),
        freckles=float(rng.random() < 0.15) * float(rng.uniform(0.4, 1)),
        glasses=str(rng.choice(["no", "round", "square", "thin"], p=[0.68, 0.12, 0.12, 0.08])),
        glasses_color=((34, 32, 38), (96, 58, 38), (150, 60, 60), (60, 78, 110), (176, 150, 96))[rng.integers(5)],
        earrings=str(rng.choice(["no", "stud", "ring"], p=[0.5, 0.3, 0.2] if woman else [0.9, 0.07, 0.03])),
        hat=str(rng.choice(["no", "cap", "beanie"], p=[0.92, 0.04, 0.04])),
        clothes=str(rng.choice(["crew", "vee", "shirt", "turtleneck"], p=[0.38, 0.22, 0.25, 0.15])),
        clothes_color=CLOTHES[rng.integers(len(CLOTHES))],
        accent=CLOTHES[rng.integers(len(CLOTHES))],
    )


def _draw_hair(woman: bool, looks: float, thickness: float, rng: np.random.Generator) -> Hair:
    grey = 1 / (1 + math.exp(-(looks - 52) / 6.5 - rng.normal(0, 0.6)))
    dyed = rng.random() < 0.15
    curly = bool(rng.random() < 0.2)
    fancy = rng.random() < (0.1 if looks < 38 else 0.02)
    length = _draw_length(woman, looks, rng)
    recession = float(
        np.clip(rng.normal(0.1 if woman else 0.3, 0.2) + (looks - 40) * (0.004 if woman else 0.013), 0, 1.1)
    )
    fronts = ["natural", "swept", "bangs", "curtains", "quiff"]
    chances = [0.12, 0.34, 0.24, 0.28, 0.02] if length else [0.28, 0.34, 0.16, 0.02, 0.2]
    return Hair(
        color=FANCY_HAIRS[rng.integers(len(FANCY_HAIRS))] if fancy else _between(rng, HAIRS),
        grey=0.0 if dyed or fancy else grey,
        length=length,
        volume=float(np.clip(0.13 + 0.035 * thickness - 0.0008 * (looks - 35), 0.03, 0.26)) + 0.06 * curly,
        front=str(rng.choice(fronts, p=chances)),
        curly=curly,
        gathered=str(rng.choice(["no", "bun", "tail"], p=[0.62, 0.2, 0.18])) if length > 1 else "no",
        recession=recession,
        side=int(rng.choice([-1, 1])),
        bald=bool(not length and not woman and rng.random() < np.clip((looks - 30) * 0.007, 0.02, 0.28)),
    )


def _draw_length(woman: bool, looks: float, rng: np.random.Generator) -> float:
    """Short, to the chin, to the shoulders, or longer; shorter with age."""
    long = rng.random() < (0.92 - 0.004 * max(0, looks - 30) if woman else 0.1)
    return float(rng.choice([0.85, 1.35, 2.0], p=[0.36, 0.3, 0.34]) + rng.normal(0, 0.1)) if long else 0.0


def _lip_color(skin: Color, made_up: bool, rng: np.random.Generator) -> Color:
    natural = mix(skin, (170, 70, 74), rng.uniform(0.35, 0.6))
    return mix(natural, LIPS[rng.integers(len(LIPS))], rng.uniform(0.4, 0.9)) if made_up else natural


def _between(rng: np.random.Generator, palette: tuple[Color, ...]) -> Color:
    """A colour between two neighbours of a palette."""
    index = rng.integers(len(palette) - 1)
    return mix(palette[index], palette[index + 1], rng.random())
