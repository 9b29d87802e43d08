"""Who is in the data set that the demo draws: how many of each gender and age, under which ids, at which paths."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from config import DemoConfig
from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels

TRAIN, EVAL = "train", "eval"
STEMS = tuple(MASK_OF_STEM)
RACE = "drawn"  # the profile's field has to hold something, and no label is learned from it

GROUPS = tuple((gender, age) for gender in GenderLabels for age in AgeLabels)
COMPETITION = (549, 410, 83, 732, 817, 109)  # its 2,700 people to train on, by gender and age
YEARS = {AgeLabels.YOUNG: (18, 29), AgeLabels.MIDDLE: (30, 59), AgeLabels.OLD: (60, 80)}
OLDEST = {"balanced": 80, "competition": 60}  # the competition records whoever is older as 60

_PURPOSES = ("plan", "order", "sheet", TRAIN, EVAL)


def random_stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Random numbers that depend on nothing but what is given here."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose), *numbers])


@dataclass(frozen=True)
class Person:
    """One person of the data set; `seed`, `split` and `number` decide how the pictures turn out."""

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
        """Where a picture goes; the name of one to label gives nothing away."""
        if self.split == TRAIN:
            return f"{TRAIN}/images/{self.profile}/{stem}.jpg"
        return f"{EVAL}/images/{hashlib.sha256(f'{self.seed}/{self.id}/{stem}'.encode()).hexdigest()[:40]}.jpg"

    def label(self, stem: str) -> int:
        return MASKED_FACES.encode(MASK_OF_STEM[stem], self.gender, AgeLabels.from_number(self.age))


def plan(config: DemoConfig) -> list[Person]:
    """Everybody to draw, those to train on first; ids are handed out by lot over both splits."""
    rng = random_stream(config.seed, "plan")
    counts = {TRAIN: config.people, EVAL: eval_people(config)}
    ids = iter(rng.permutation(sum(counts.values())) + 1)
    weights = COMPETITION if config.proportions == "competition" else (1,) * len(GROUPS)
    people = []
    for split, count in counts.items():
        for number, group in enumerate(np.repeat(np.arange(len(GROUPS)), apportion(count, weights))):
            gender, age = GROUPS[group]
            years = draw_years(age, rng)
            recorded = min(years, OLDEST[config.proportions])
            people.append(Person(config.seed, split, number, f"{next(ids):06}", gender, years, recorded))
    return people


def eval_people(config: DemoConfig) -> int:
    """How many people to evaluate on: half as many as to train on; two thirds with the competition's proportions."""
    default = config.people * 2 // 3 if config.proportions == "competition" else config.people // 2
    return config.eval_people or default


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Share out `total` in proportion to whole weights, by the method of the largest remainder."""
    shares = [divmod(total * weight, sum(weights)) for weight in weights]
    left = total - sum(quota for quota, _ in shares)
    luckiest = sorted(range(len(weights)), key=lambda index: -shares[index][1])[:left]
    return [quota + (index in luckiest) for index, (quota, _) in enumerate(shares)]


def draw_years(age: AgeLabels, rng: np.random.Generator) -> int:
    """An age within a group, every year equally likely."""
    return int(rng.integers(*YEARS[age], endpoint=True))
