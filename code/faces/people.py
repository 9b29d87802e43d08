"""People of the demo: who is in the data set, and the traits that every image of a person shares.

A trait is random around what is usual for the gender and the age. The groups overlap in every trait, so that none
decides alone; skin, eye colour, glasses and clothes say nothing about either.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faces.options import DemoConfig
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels

Color = tuple[int, int, int]

TRAIN, EVAL = "train", "eval"
STEMS = tuple(MASK_OF_STEM)
RACE = "drawn"  # the name of a profile folder has this field, but no label is learned from it
GROUPS = tuple((gender, age) for gender in GenderLabels for age in AgeLabels)
COMPETITION = (549, 410, 83, 732, 817, 109)  # its 2,700 people to train on, by gender and age
YEARS = {AgeLabels.YOUNG: (18, 29), AgeLabels.MIDDLE: (30, 59), AgeLabels.OLD: (60, 80)}
OLDEST = {"balanced": 80, "competition": 60}  # the competition records anyone older as 60

SKINS: Sequence[Color] = ((255, 224, 200), (239, 196, 160), (214, 160, 118), (158, 106, 72), (98, 64, 46))
HAIRS: Sequence[Color] = ((30, 26, 28), (58, 42, 36), (104, 70, 46), (150, 90, 50), (204, 164, 104))
IRISES: Sequence[Color] = ((62, 42, 30), (112, 80, 44), (84, 104, 72), (82, 118, 148))
CLOTHES: Sequence[Color] = ((52, 64, 92), (196, 74, 64), (236, 232, 222), (58, 110, 104), (228, 174, 72), (70, 74, 80))
SILVER = (206, 206, 208)


def random_stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Return random numbers that depend on nothing but the arguments."""
    return np.random.default_rng([seed, *purpose.encode(), *numbers])


def mix(first: Color, second: Color, share: float) -> Color:
    """Return a colour between two: the first at share 0, the second at share 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def pick(palette: Sequence[Color], rng: np.random.Generator) -> Color:
    """Return a random colour of a palette with a tint of another one."""
    first, second = (palette[int(index)] for index in rng.integers(len(palette), size=2))
    return mix(first, second, rng.uniform(0, 0.3))


@dataclass(frozen=True)
class Person:
    """A person of the data set; `seed`, `split` and `number` decide how the images turn out."""

    seed: int
    split: str
    number: int
    id: str
    gender: GenderLabels
    years: int  # as drawn
    age: int  # as recorded

    @property
    def profile(self) -> str:
        return f"{self.id}_{self.gender.name.lower()}_{RACE}_{self.age}"

    def path(self, stem: str) -> str:
        """Return where an image goes; the name of a test image does not reveal its class."""
        if self.split == TRAIN:
            return f"{TRAIN}/images/{self.profile}/{stem}.jpg"
        return f"{EVAL}/images/{hashlib.sha256(f'{self.seed}/{self.id}/{stem}'.encode()).hexdigest()[:40]}.jpg"

    def label(self, stem: str) -> int:
        return MASKED_FACES.encode(MASK_OF_STEM[stem], self.gender, AgeLabels.from_number(self.age))


def plan(config: DemoConfig) -> list[Person]:
    """Return everybody to draw, people to train on first; ids are random over both splits."""
    rng = random_stream(config.seed, "plan")
    counts = {TRAIN: config.people, EVAL: eval_people(config)}
    ids = iter(rng.permutation(sum(counts.values())) + 1)
    weights = COMPETITION if config.proportions == "competition" else (1,) * len(GROUPS)
    people = []
    for split, count in counts.items():
        for number, group in enumerate(np.repeat(np.arange(len(GROUPS)), apportion(count, weights))):
            gender, age = GROUPS[group]
            years = random_years(age, rng)
            recorded = min(years, OLDEST[config.proportions])
            people.append(Person(config.seed, split, number, f"{next(ids):06}", gender, years, recorded))
    return people


def eval_people(config: DemoConfig) -> int:
    """Return how many people to evaluate on: by default half the training people, two thirds as in the competition."""
    return config.eval_people or config.people * (4 if config.proportions == "competition" else 3) // 6


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide `total` in proportion to whole weights, by the method of the largest remainder."""
    shares = [divmod(total * weight, sum(weights)) for weight in weights]
    left = total - sum(quota for quota, _ in shares)
    largest = sorted(range(len(weights)), key=lambda index: -shares[index][1])[:left]
    return [quota + (index in largest) for index, (quota, _) in enumerate(shares)]


def random_years(age: AgeLabels, rng: np.random.Generator) -> int:
    """Return an age in years within a group, every year equally likely."""
    return int(rng.integers(*YEARS[age], endpoint=True))


@dataclass(frozen=True)
class Face:
    """The traits that all images of a person share; lengths in units of half a head ."""

    skin: Color
    iris: Color
    clothes: Color
    glasses: bool
    jaw: float  # half the width, like chin and neck
    chin: float
    neck: float
    lashes: float
    brows: float  # thickness
    makeup: float  # strength of the lipstick
    beard: float  # from 0 for shaved to 1 for full
    hair_length: float  # below the eyes, 0 for short
    grey: float  # from 0 for none to 1, like the wrinkles of the next three
    forehead: float
    bags: float
    folds: float  # beside the mouth
    eyes: float  # size, about 1, like the fullness of the lips
    lips: float
    hair: Color
    front: str  # bangs, back, or parted on the left or right
    recession: float  # how far the hairline has moved back
    bald: bool


def random_face(gender: GenderLabels, years: int, rng: np.random.Generator) -> Face:
    """Return a random face of this gender and age."""
    woman = gender == GenderLabels.FEMALE
    decades = (years + rng.normal(0, 2.5) - 35) / 10  # some look younger or older than they are

    def trait(mean: float, spread: float, women: float = 0, per_decade: float = 0) -> float:
        """Return a normal number; the mean of women lies `women` spreads above that of men."""
        lean = women / 2 if woman else -women / 2
        return float(mean + spread * (rng.normal() + lean) + per_decade * decades)

    def wrinkle(start: float, span: float) -> float:
        """Return a sign of age that appears at `start` decades over 35 and is full `span` decades later."""
        return float(np.clip((decades - start) / span + rng.normal(0, 0.13), 0, 1))

    long_hair = rng.random() < (0.92 - 0.03 * max(0.0, decades) if woman else 0.1)
    grey = float(1 / (1 + np.exp(3.6 - 2 * decades + rng.normal(0, 0.8)))) if rng.random() < 0.88 else 0.0
    return Face(
        skin=pick(SKINS, rng),
        iris=pick(IRISES, rng),
        clothes=pick(CLOTHES, rng),
        glasses=bool(rng.random() < 0.3),
        jaw=trait(0.575, 0.032, women=-1.8),
        chin=trait(0.27, 0.035, women=-1.7),
        neck=trait(0.44, 0.032, women=-1.9),
        lashes=float(np.clip(trait(0.45, 0.25, women=2), 0, 1.2)),
        brows=float(np.clip(trait(0.066, 0.013, women=-2), 0.03, 0.11)),
        makeup=float(np.clip(trait(0.1, 0.3, women=1.8), 0, 0.9)),
        beard=0.0 if woman else float(np.clip(trait(0.3, 0.4), 0, 1)),
        hair_length=float(rng.choice([0.85, 1.35, 2.0]) + rng.normal(0, 0.1)) if long_hair else 0.0,
        grey=grey,
        forehead=wrinkle(-0.9, 2.7),
        bags=wrinkle(-1.3, 3.2),
        folds=wrinkle(-1.1, 2.8),
        eyes=trait(1, 0.05, women=1.1, per_decade=-0.036),
        lips=float(np.clip(trait(1, 0.13, women=0.9, per_decade=-0.09), 0.45, 1.5)),
        hair=mix(pick(HAIRS, rng), SILVER, 0.9 * grey),
        front=str(rng.choice(["bangs", "back", "left", "right"])),
        recession=float(np.clip(trait(0.2, 0.2, women=-1, per_decade=0.08), 0, 1.1)),
        bald=not woman and not long_hair and bool(rng.random() < 0.07 * (decades + 0.5)),
    )
