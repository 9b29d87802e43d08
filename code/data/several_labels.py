"""Data sets whose images have several labels: from texts such as `a|b` to a matrix of 0 and 1. No torch.

A reader that cannot know leaves the texts as the names of single classes, and `apply_task` reads them as --task says.
With `auto`, texts are several labels if a part of one text is, or is a part of, another text, as in `cat|dog` and
`dog`: a class of its own that has the name `TV|radio` stays one.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from data.names import first_names
from data.samples import Samples
from labels import MULTI, SEPARATOR, LabelScheme, join_labels, split_labels
from runtime.errors import ConfigError, DataError

AUTO, ONE, SEVERAL = "auto", "single", "multilabel"  # values of --task


def apply_task(samples: Samples, task: str) -> Samples:
    """Return a data set as --task says: `single`, `multilabel`, or by what its labels look like if it is `auto`.

    Raises ConfigError for a data set that has the other kind of labels.
    """
    if samples.scheme.kind == MULTI:
        if task == ONE:
            raise ConfigError(
                f"--task {ONE}: the images have several labels each; leave the option out: {samples.root}"
            )
        return samples
    if task == SEVERAL and not samples.has_label_texts:
        raise ConfigError(
            f"--task {SEVERAL}: the images have one label each, expected a label table or a multi-label manifest: "
            f"{samples.root}"
        )
    is_open = task == AUTO and samples.has_label_texts
    if task == SEVERAL or (is_open and look_like_several(samples.scheme.classes)):
        return with_several_labels(samples)
    if is_open and (joined := [name for name in samples.scheme.classes if SEPARATOR in name]):
        note = f"labels with {SEPARATOR!r} are single classes: {first_names(joined)}; for several labels pass --task "
        return replace(samples, notes=[*samples.notes, f"{note}{SEVERAL}: {samples.root}"])
    return samples


def match_task(validation: Samples, train: Samples) -> Samples:
    """Return validation with one label or several for each image, as training; raise DataError if it has the others."""
    task = SEVERAL if train.scheme.kind == MULTI else ONE
    try:
        return apply_task(validation, task)
    except ConfigError:
        each = ("several labels", "one label") if task == SEVERAL else ("one label", "several labels")
        raise DataError(
            f"the images for training have {each[0]} each, and those for validation {each[1]}; label both in the same "
            f"way: {validation.root}"
        ) from None


def look_like_several(texts: Collection[str]) -> bool:
    """Return True if texts are several labels rather than names of single classes."""
    joined = [text for text in texts if SEPARATOR in text]
    if any(len(split_labels(text)) <= text.count(SEPARATOR) for text in joined):
        return True  # `a|`, `|`, `a||b`
    whose: dict[str, int] = {}
    for text in texts:
        for part in split_labels(text):
            whose[part] = whose.get(part, 0) + 1
    return any(whose[part] > 1 for text in joined for part in split_labels(text))


def with_several_labels(samples: Samples, classes: Sequence[str] | None = None) -> Samples:
    """Return a data set whose single classes are texts such as `a|b` as one with several labels for each image.

    `classes` are all that there are, by default those of the texts. In the table, `label` becomes a text of class
    numbers, such as `3|7`. Raises DataError for fewer than two classes.
    """
    texts = [split_labels(text) for text in samples.scheme.classes]
    names = sorted(set(classes or ()) | {name for found in texts for name in found})
    if len(names) < 2:
        raise DataError(
            f"the images have {len(names)} different labels ({first_names(names)}); at least 2 are needed: "
            f"{samples.root}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    cells = [join_labels(sorted(numbers[name] for name in found)) for found in texts]
    scheme = LabelScheme(samples.scheme.name, tuple(names), kind=MULTI)
    table = samples.table.assign(label=[cells[label] for label in samples.labels.tolist()])
    return replace(samples, table=table, scheme=scheme, has_label_texts=False)


def renumber(cells: Sequence[str], known: Sequence[int]) -> list[str]:
    """Return texts of class numbers with other numbers: `known` (classes,) has the new one of each."""
    new = {cell: join_labels(sorted(known[int(label)] for label in split_labels(cell))) for cell in set(cells)}
    return [new[cell] for cell in cells]
