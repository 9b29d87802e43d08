"""Label schemes: what a class number means. No torch, no pandas.

Masked faces have 18 classes from three tasks, mask x gender x age: `class = mask * 6 + gender * 3 + age`. Any other
data set has a plain scheme: a list of class names without tasks. An image has one label, or any number of them if the
scheme is `multi`: then its labels are written as `a|b`, and `|` alone stands for none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from math import prod
from typing import Any, Self

from runtime.errors import ConfigError, DataError, unknown_name


class MaskLabels(IntEnum):
    """Mask worn correctly, incorrectly, or not at all."""

    MASK = 0
    INCORRECT = 1
    NORMAL = 2


class GenderLabels(IntEnum):
    """Perceived gender, as recorded in the data set."""

    MALE = 0
    FEMALE = 1

    @classmethod
    def from_str(cls, value: str) -> Self:
        """Parse `male` or `female`, in any case; raises DataError for anything else."""
        try:
            return cls[value.upper()]
        except KeyError:
            raise DataError(unknown_name("gender", value, ("male", "female"))) from None


class AgeLabels(IntEnum):
    """Age group: under 30, 30 to 59, 60 and over."""

    YOUNG = 0
    MIDDLE = 1
    OLD = 2

    @classmethod
    def from_number(cls, value: str | int) -> Self:
        """Return the group of an age in whole years, 0 to 150; raises DataError for anything else."""
        try:
            years = int(value)
        except ValueError:
            raise DataError(f"age {value!r} is not a whole number of years") from None
        if not 0 <= years <= 150:
            raise DataError(f"age {years} is not between 0 and 150 years")
        return cls.YOUNG if years < 30 else cls.MIDDLE if years < 60 else cls.OLD


# File stems of the images in a profile folder; other files there are ignored.
MASK_OF_STEM = {
    **{f"mask{number}": MaskLabels.MASK for number in range(1, 6)},
    "incorrect_mask": MaskLabels.INCORRECT,
    "normal": MaskLabels.NORMAL,
}


@dataclass(frozen=True)
class Task:
    """One attribute of a class, such as `mask`, and the names of its values."""

    name: str
    classes: tuple[str, ...]


SINGLE, MULTI = "single", "multi"  # how many labels an image has: one, or any number
SEPARATOR = "|"  # between the labels of an image


@dataclass(frozen=True)
class LabelScheme:
    """The names of all classes and, if a class combines several attributes, the tasks (the last varies fastest).

    `kind` tells how many labels an image has. Raises DataError for fewer than two classes, tasks whose values do not
    multiply to the number of classes, tasks of a `multi` scheme, and another kind.
    """

    name: str
    classes: tuple[str, ...]
    tasks: tuple[Task, ...] = ()
    kind: str = SINGLE

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"label scheme {self.name!r} has {len(self.classes)} classes; at least 2 are needed")
        if self.tasks and prod(len(task.classes) for task in self.tasks) != len(self.classes):
            raise DataError(f"label scheme {self.name!r}: the tasks do not multiply to {len(self.classes)} classes")
        if self.kind not in (SINGLE, MULTI) or (self.kind == MULTI and self.tasks):
            raise DataError(f"label scheme {self.name!r} is of the kind {self.kind!r}, expected {SINGLE} or {MULTI}")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def decode(self, label: int) -> tuple[int, ...]:
        """Return one number per task for a class number: 7 -> (1, 0, 1) for masked faces; () without tasks."""
        digits: list[int] = []
        for task in reversed(self.tasks):
            label, digit = divmod(label, len(task.classes))
            digits.append(digit)
        return tuple(reversed(digits))

    def encode(self, *digits: int) -> int:
        """Return the class number for one number per task; the inverse of `decode`."""
        label = 0
        for task, digit in zip(self.tasks, digits, strict=True):
            label = label * len(task.classes) + int(digit)
        return label

    def describe(self, label: int) -> dict[str, str]:
        """Return the value of each task by name: 7 -> {"mask": "incorrect", "gender": "male", "age": "30-59"}."""
        digits = self.decode(label)
        return {task.name: task.classes[digit] for task, digit in zip(self.tasks, digits, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, the kind only if it is not `single`; the inverse of `from_dict`."""
        tasks = [{"name": task.name, "classes": list(task.classes)} for task in self.tasks]
        kind = {"kind": self.kind} if self.kind != SINGLE else {}
        return {"name": self.name, "classes": list(self.classes), "tasks": tasks, **kind}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Create a scheme from the fields of `to_dict`; raises KeyError, TypeError or DataError for any others."""
        tasks = tuple(Task(task["name"], _names(task["classes"])) for task in record["tasks"])
        return cls(record["name"], _names(record["classes"]), tasks, record.get("kind", SINGLE))


def _names(classes: object) -> tuple[str, ...]:
    """Return the names of classes in JSON; raise TypeError unless they are a list of texts."""
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"the classes are {str(classes)[:80]}, expected a list of texts")
    return tuple(classes)


def require_one_label(scheme: LabelScheme, what: str, remedy: str) -> None:
    """Raise ConfigError if images have several labels; the message names `what` needs one, and a `remedy`."""
    if scheme.kind == MULTI:
        raise ConfigError(f"{what} is for one label of each image, and these have several; {remedy}")


def split_labels(text: str) -> list[str]:
    """Return the labels in a text such as `a|b`, each once, in the order of the text; none of `|`."""
    return list(dict.fromkeys(part for label in text.split(SEPARATOR) if (part := label.strip())))


def join_labels(labels: Iterable[object]) -> str:
    """Return labels as one text, the inverse of `split_labels`: `|` for none, as an empty text is no answer."""
    return SEPARATOR.join(map(str, labels)) or SEPARATOR


_TASKS = (
    Task("mask", ("worn", "incorrect", "not worn")),
    Task("gender", ("male", "female")),
    Task("age", ("under 30", "30-59", "60 and over")),
)

MASKED_FACES = LabelScheme(
    "masked-faces",
    tuple(f"mask {mask}, {gender}, {age}" for mask, gender, age in product(*(task.classes for task in _TASKS))),
    _TASKS,
)
