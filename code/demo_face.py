"""Who is drawn: the traits of a face, by lot around what is usual for a gender and an age.

Every trait overlaps between the groups and has its own chance, so that none decides alone: a woman with short hair, a
man with long lashes, an early grey head, a smooth old one. Skin, eyes, clothes, glasses and hats say nothing at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo_pen import Color, mix
from labels import GenderLabels

SILVER = (206, 206, 208)
SKINS = (
    (255, 224, 200), (246, 209, 178), (239, 196, 160), (229, 180, 140), (214, 160, 118), (190, 134, 94),
    (158, 106, 72), (126, 82, 56), (98, 64, 46),
)  # fmt: skip
HAIRS = (
    (30, 26, 28), (44, 34, 32), (58, 42, 36), (78, 54, 40), (104, 70, 46), (132, 88, 54), (122, 62, 40),
    (168, 122, 72), (204, 164, 104), (156, 78, 46),
)  # fmt: skip
DYES = ((214, 92, 128), (92, 120, 190), (118, 84, 160), (70, 150, 146))
IRISES = ((62, 42, 30), (84, 58, 36), (112, 80, 44), (84, 104, 72), (82, 118, 148), (104, 128, 140))
LIPSTICKS = ((178, 52, 66), (196, 82, 92), (156, 44, 78), (210, 104, 88))
FRAMES = ((34, 32, 38), (96, 58, 38), (150, 60, 60), (60, 78, 110), (176, 150, 96))
CLOTHES = (
    (52, 64, 92), (196, 74, 64), (236, 232, 222), (58, 110, 104), (228, 174, 72), (112, 84, 126), (70, 74, 80),
    (140, 170, 190), (206, 140, 132), (122, 138, 88), (36, 40, 48), (232, 206, 176),
)  # fmt: skip


@dataclass(frozen=True)
class Build:
    """Half the widths of face, jaw, chin and neck, in units of the pen."""

    width: float
    jaw: float
    chin: float
    neck: float


@dataclass(frozen=True)
class Hair:
    """Hair on the head: `length` is how far below the eyes it ends, 0 for short; `recession` how far it drew back."""

    color: Color
    grey: float
    length: float
    volume: float
    front: str
    curly: bool
    gathered: str
    recession: float
    side: int  # -1 or 1: where the parting is
    bald: bool


@dataclass(frozen=True)
class Eyes:
    """Eyes and brows; lengths in units of the pen, `size`, `lashes` and `shadow` (make-up) relative."""

    size: float
    spacing: float
    slant: float
    iris: Color
    lashes: float
    shadow: float
    brow_width: float
    brow_arch: float
    brow_height: float


@dataclass(frozen=True)
class Nose:
    width: float
    tip: float  # how far below the eyes


@dataclass(frozen=True)
class Lips:
    half_width: float
    fullness: float
    color: Color


@dataclass(frozen=True)
class Age:
    """The marks of age, each from 0 for none to about 1."""

    forehead: float
    eyes: float  # crow's feet
    bags: float
    folds: float  # from the nose to the corners of the mouth
    sag: float
    spots: float


@dataclass(frozen=True)
class Outfit:
    glasses: str
    frame: Color
    earrings: str
    hat: str
    clothes: str
    color: Color
    accent: Color  # of hat and collar


@dataclass(frozen=True)
class Face:
    """Everything that the pictures of one person have in common."""

    skin: Color
    blush: float
    freckles: float
    build: Build
    hair: Hair
    eyes: Eyes
    nose: Nose
    lips: Lips
    stubble: float
    beard: str
    age: Age
    outfit: Outfit


@dataclass(frozen=True)
class Lots:
    """Draws lots for a person of one gender who looks so many years old."""

    rng: np.random.Generator
    woman: bool
    looks: float

    def around(self, middle: float, spread: float, *, women: float = 0.0, per_year: float = 0.0) -> float:
        """A normal number: women's mean lies `women` spreads above men's, and it moves `per_year` of looks over 35."""
        lean = women / 2 if self.woman else -women / 2
        return float(middle + spread * (self.rng.normal() + lean) + per_year * (self.looks - 35))

    def mark(self, start: float, span: float, spread: float) -> float:
        """A mark of age that begins to show at `start` years and is full `span` years later."""
        return float(np.clip((self.looks - start) / span + self.rng.normal(0, spread), 0, 1.2))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, chances: Mapping[str, float]) -> str:
        weights = np.array(list(chances.values()))
        return str(self.rng.choice(list(chances), p=weights / weights.sum()))

    def pick(self, palette: Sequence[Color]) -> Color:
        return palette[int(self.rng.integers(len(palette)))]

    def between(self, palette: Sequence[Color]) -> Color:
        """A colour between two neighbours of a palette."""
        index = int(self.rng.integers(len(palette) - 1))
        return mix(palette[index], palette[index + 1], self.rng.random())


def draw_face(gender: GenderLabels, years: int, rng: np.random.Generator) -> Face:
    """Draw the traits of a person of this gender and age by lot."""
    lots = Lots(rng, gender == GenderLabels.FEMALE, years + rng.normal(0, 2.5))  # some look younger than they are
    skin, made_up = lots.between(SKINS), lots.chance(0.6 if lots.woman else 0.03)
    beards = {"none": 1.0} if lots.woman else {"none": 0.62, "moustache": 0.09, "goatee": 0.11, "full": 0.18}
    return Face(
        skin=skin,
        blush=float(np.clip(lots.around(0.5, 0.2, per_year=-0.009), 0, 1)),
        freckles=rng.uniform(0.4, 1) if lots.chance(0.15) else 0.0,
        build=Build(
            width=lots.around(0.765, 0.012, women=-0.9),
            jaw=lots.around(0.575, 0.032, women=-1.8),
            chin=lots.around(0.27, 0.035, women=-1.7),
            neck=lots.around(0.44, 0.032, women=-1.9),
        ),
        hair=_draw_hair(lots),
        eyes=_draw_eyes(lots, made_up),
        nose=Nose(lots.around(0.155, 0.012, women=-0.7, per_year=0.0006), lots.around(0.36, 0.02, per_year=0.0012)),
        lips=Lips(
            half_width=lots.around(0.255, 0.018),
            fullness=float(np.clip(lots.around(1, 0.13, women=0.9, per_year=-0.009), 0.45, 1.5)),
            color=_draw_lip_color(lots, skin, made_up),
        ),
        stubble=0.0 if lots.woman else float(np.clip(lots.around(0.4, 0.3), 0, 1)),
        beard=lots.one_of(beards),
        age=Age(
            forehead=lots.mark(26, 27, 0.13),
            eyes=lots.mark(26, 28, 0.13),
            bags=lots.mark(22, 32, 0.14),
            folds=lots.mark(24, 28, 0.12),
            sag=lots.mark(36, 27, 0.14),
            spots=lots.mark(46, 26, 0.18),
        ),
        outfit=_draw_outfit(lots),
    )


def _draw_hair(lots: Lots) -> Hair:
    dyed, natural = lots.chance(0.13 if lots.looks < 32 else 0.02), lots.between(HAIRS)
    hides_grey = dyed or lots.chance(0.1)
    length, curly = _draw_length(lots), lots.chance(0.2)
    if length:
        fronts = {"combed back": 0.12, "swept": 0.34, "bangs": 0.24, "curtains": 0.3}
    else:
        fronts = {"combed back": 0.28, "swept": 0.34, "bangs": 0.18, "quiff": 0.2}
    volume = lots.around(0.13, 0.035, women=0.5, per_year=-0.0008)
    return Hair(
        color=lots.pick(DYES) if dyed else natural,
        grey=0.0 if hides_grey else float(1 / (1 + np.exp(-(lots.looks - 53) / 5 + lots.rng.normal(0, 0.6)))),
        length=length,
        volume=float(np.clip(volume, 0.03, 0.26)) + 0.06 * curly,
        front=lots.one_of(fronts),
        curly=curly,
        gathered=lots.one_of({"no": 0.62, "bun": 0.2, "tail": 0.18}) if length > 1 else "no",
        recession=float(np.clip(lots.around(0.2, 0.2, women=-1, per_year=0.004 if lots.woman else 0.013), 0, 1.1)),
        side=1 if lots.chance(0.5) else -1,
        bald=not lots.woman and not length and lots.chance(float(np.clip((lots.looks - 30) * 0.007, 0.02, 0.28))),
    )


def _draw_length(lots: Lots) -> float:
    """Short, to the chin, to the shoulders or longer; with age more often short."""
    if not lots.chance(0.92 - 0.004 * max(0.0, lots.looks - 30) if lots.woman else 0.1):
        return 0.0
    return float(lots.rng.choice([0.85, 1.35, 2.0], p=[0.36, 0.3, 0.34]) + lots.rng.normal(0, 0.1))


def _draw_eyes(lots: Lots, made_up: bool) -> Eyes:
    return Eyes(
        size=lots.around(1.0, 0.05, women=1.1, per_year=-0.0036),
        spacing=lots.around(1.0, 0.03),
        slant=lots.around(0.05, 0.05, per_year=-0.003),
        iris=lots.pick(IRISES),
        lashes=float(np.clip(lots.around(0.35, 0.22, women=2) + 0.3 * made_up, 0, 1.2)),
        shadow=lots.rng.uniform(0.15, 0.7) if made_up else 0.0,
        brow_width=float(np.clip(lots.around(0.066, 0.013, women=-2), 0.03, 0.11)),
        brow_arch=lots.around(0.035, 0.018, women=0.9),
        brow_height=lots.around(-0.3, 0.016, women=-0.8, per_year=0.0009),
    )


def _draw_lip_color(lots: Lots, skin: Color, made_up: bool) -> Color:
    natural = mix(skin, (170, 70, 74), lots.rng.uniform(0.35, 0.6))
    return mix(natural, lots.pick(LIPSTICKS), lots.rng.uniform(0.4, 0.9)) if made_up else natural


def _draw_outfit(lots: Lots) -> Outfit:
    earrings = {"none": 0.5, "stud": 0.3, "ring": 0.2} if lots.woman else {"none": 0.9, "stud": 0.07, "ring": 0.03}
    return Outfit(
        glasses=lots.one_of({"none": 0.68, "round": 0.12, "square": 0.12, "thin": 0.08}),
        frame=lots.pick(FRAMES),
        earrings=lots.one_of(earrings),
        hat=lots.one_of({"none": 0.92, "cap": 0.04, "beanie": 0.04}),
        clothes=lots.one_of({"crew": 0.38, "vee": 0.22, "shirt": 0.25, "turtleneck": 0.15}),
        color=lots.pick(CLOTHES),
        accent=lots.pick(CLOTHES),
    )
