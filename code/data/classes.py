"""Classes as text: a column of class names or numbers, or of several, in gt.csv or output.csv. No torch, no pandas."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.names import canonical_name, check_names, read_number
from data.tables import SCHEME_JSON
from labels import SEPARATOR, LabelScheme, split_labels
from runtime.errors import DataError

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def read_classes(
    texts: Sequence[str],
    scheme: LabelScheme,
    path: Path,
    *,
    column: str = "ans",
    predicted: bool = False,
    named: bool = False,
) -> Numbers:
    """Return the class numbers of a column of numbers or names; an empty text is num_classes if `predicted`.

    A class may be named like the number of another: then gt.csv contains names if all texts are names, and output.csv
    contains numbers if all are numbers, as inference writes them unless they are `named` (--answers name). `column` is
    what messages call the column. Raises DataError for anything else.
    """
    texts = [canonical_name(text) for text in texts]
    numbers = {text: label for label in range(scheme.num_classes) for text in (str(label), f"{label}.0")}
    names = {canonical_name(name): label for label, name in enumerate(scheme.classes)}
    blank = {"": scheme.num_classes} if predicted else {}
    numbers_or_blank, names_or_blank, everything = numbers | blank, names | blank, names | numbers | blank
    if predicted and not named and all(text in numbers_or_blank for text in texts):
        return _look_up(texts, numbers_or_blank)
    if all(text in names_or_blank for text in texts):
        check_names(scheme.classes, path.with_name(SCHEME_JSON))
        return _look_up(texts, names_or_blank)
    _check_unambiguous(sorted(texts, key=names.__contains__), scheme, path, column)
    if all(text in numbers for text in texts):
        return _look_up(texts, numbers)
    unknown = [text for text in texts if text not in everything]
    wrong = f"contains {unknown[0]!r}" if unknown else "mixes class numbers and names"
    raise DataError(
        f"column {column} {wrong}, expected only numbers from 0 to {scheme.num_classes - 1} or only class names: {path}"
    )


def read_label_sets(
    texts: Sequence[str],
    scheme: LabelScheme,
    path: Path,
    *,
    column: str = "ans",
    predicted: bool = False,
    named: bool = False,
) -> Flags:
    """Return which classes each text of a column such as `3|7` or `a|b` has, (images, classes).

    As `read_classes`, of all labels together; `|` stands for no label. An empty text, which stands for no prediction,
    has none if `predicted`, else it raises DataError.
    """
    if not predicted and not all(texts):
        raise DataError(
            f"row {[bool(text) for text in texts].index(False) + 2} of {path.name} has no {column}, expected labels "
            f"such as a|b, or {SEPARATOR} for none: {path}"
        )
    sets = [split_labels(text) for text in texts]
    parts = [label for labels in sets for label in labels]
    numbers = read_classes(parts, scheme, path, column=column, predicted=predicted, named=named)
    flags = np.zeros((len(texts), scheme.num_classes), np.bool_)
    flags[np.repeat(np.arange(len(texts)), [len(labels) for labels in sets]), numbers] = True
    return flags


def _look_up(texts: Sequence[str], reading: Mapping[str, int]) -> Numbers:
    return np.array([reading[text] for text in texts], dtype=np.int64)


def _check_unambiguous(texts: Sequence[str], scheme: LabelScheme, path: Path, column: str) -> None:
    """Raise DataError for a text that is the number in a class name, unless it is the number of that class, too.

    A spreadsheet turns `01` into 1, and 1 is the number of another class than `01` if the classes are 01, 02, 03.
    """
    named: dict[float, list[int]] = {}
    for label, name in enumerate(scheme.classes):
        if (number := read_number(name)) is not None:
            named.setdefault(number, []).append(label)
    for text in texts:
        number = read_number(text)
        labels = named.get(number, []) if number is not None else []
        if number is None or not labels or labels == [number]:
            continue
        meanings = [f"class {scheme.classes[label]!r}" for label in labels]
        if number in range(scheme.num_classes):
            meanings.append(f"class number {int(number)} ({scheme.classes[int(number)]!r})")
        raise DataError(
            f"column {column} contains {text!r}, which may mean {' or '.join(meanings)}, expected class names as they "
            f"are in {SCHEME_JSON}; format the column as text, or write other names: {path}"
        )
