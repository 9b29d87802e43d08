"""What a user should know about a data set before it is trained on, in lines of text. No torch.

Training prints them, and so does `submit.py train` before anything is uploaded.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from data.layout import ALL_REMEDIES
from data.listing import describe_ignored, printable
from data.names import read_number
from data.samples import Samples
from data.split import untrained_classes
from labels import MULTI, LabelScheme

_MOST = 20  # classes in one line


def describe_classes(samples: Samples) -> list[str]:
    """Return the line `images per class: cat (15), dog (12)`; no line if the classes are fixed, as of masked faces."""
    if samples.scheme.tasks:
        return []
    counts = samples.class_counts().tolist()
    named = [f"{printable(name)} ({count})" for name, count in zip(samples.scheme.classes, counts, strict=True)]
    more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
    return [f"images per class: {', '.join(named[:_MOST])}{more}"]


def describe_found(samples: Samples, title: str) -> str:
    """Return one line about what `--dataset auto` found: the layout, the classes with counts, the groups, the split."""
    classes = describe_classes(samples) or [f"classes: {' x '.join(task.name for task in samples.scheme.tasks)}"]
    what = "people" if samples.scheme.tasks else "groups"
    groups = f"{samples.table['person'].nunique()} {what}" if samples.has_groups else "no groups"
    split = "no split given"
    if samples.has_split:
        split = "split given: {train} train, {val} val".format_map(Counter(samples.table["part"]))
    several = ", several for each image" if samples.scheme.kind == MULTI else ""
    return (
        f"found {title}: {len(samples.table)} images of {samples.scheme.num_classes} classes{several}; {classes[0]}; "
        f"{groups}; {split}"
    )


def find_warnings(samples: Samples) -> list[str]:
    """Return a sentence for each reason to ignore files, the notes, and one if class names look like other numbers."""
    sentences = [*describe_ignored(samples.ignored, samples.root, ALL_REMEDIES), *samples.notes]
    what, each = ("folders", "folder") if samples.scheme.name == "folders" else ("classes", "name")
    if numbered := _find_other_numbers(samples.scheme):
        sentences.append(
            f"{what} named by numbers are not their own class numbers: {numbered}; output.csv contains class numbers, "
            f"and scheme.json the {each} of each: {samples.root}"
        )
    return sentences


def describe_untrained(samples: Samples, train: NDArray[np.int64]) -> list[str]:
    """Return the sentence that names every class without an image among the indices `train`, if there are any."""
    names = [repr(name) for name in untrained_classes(samples, train)]
    if not names:
        return []
    return [
        f"no training image for {len(names)} of {samples.scheme.num_classes} classes, which the model cannot learn: "
        f"{', '.join(names)}; add images of them, or change --val-ratio or --seed: {samples.root}"
    ]


def _find_other_numbers(scheme: LabelScheme) -> str:
    """Return the first class names that are numbers, but not their class numbers; an empty string if there are none."""
    numbers = [(name, label) for label, name in enumerate(scheme.classes) if read_number(name) not in (None, label)]
    return ", ".join(f"{name} is class {label}" for name, label in numbers[:3]) + (", ..." if len(numbers) > 3 else "")
