"""Validation images in a folder of their own, and the check that nobody is in training and validation. No torch."""

from pathlib import Path

import pandas as pd

from data.layout import ALL_REMEDIES
from data.listing import describe_ignored
from data.names import canonical_name, first_names
from data.readers import read_dataset
from data.samples import Samples
from data.several_labels import renumber
from labels import MULTI
from runtime.errors import DataError


def read_validation(dataset: str, channel: Path, variable: str = "SM_CHANNEL_VALIDATION") -> Samples:
    """Read a folder of validation images by the name of a data set; "auto" looks at this folder, not at training."""
    return read_dataset(dataset, channel, variable)


def add_validation(train: Samples, val: Samples) -> Samples:
    """Return the images of training followed by those of validation, as a data set that comes with a split.

    Validation may have fewer classes than training, in any order. Raises DataError if it has others, and if one of both
    comes with a split of its own.
    """
    for samples, what, other in ((train, "training", "validation"), (val, "validation", "training")):
        if samples.has_split:
            raise DataError(
                f"the data for {what} comes with a split, and there is a folder for {other}, too; remove one of them: "
                f"{samples.root}"
            )
    known = {canonical_name(name): label for label, name in enumerate(train.scheme.classes)}
    if unknown := [name for name in val.scheme.classes if canonical_name(name) not in known]:
        raise DataError(
            f"validation has classes that training does not have: {first_names(unknown)}; rename or remove them, the "
            f"classes of training are {first_names(train.scheme.classes, 8)}: {val.root}"
        )
    numbers = [known[canonical_name(name)] for name in val.scheme.classes]
    cells = val.table["label"].tolist()
    labels = renumber(cells, numbers) if val.scheme.kind == MULTI else [numbers[label] for label in cells]
    parts = (train.table.assign(part="train"), val.table.assign(part="val", label=labels))
    table = pd.concat(parts, ignore_index=True)
    if "weight" in table:  # maybe of one folder only
        table["weight"] = table["weight"].fillna(1.0)
    return Samples(
        train.root,
        table,
        train.scheme,
        train.ignored,
        (*train.notes, *val.notes, *describe_ignored(val.ignored, val.root, ALL_REMEDIES)),
        val_root=val.root,
    )


def check_leaks(samples: Samples) -> None:
    """Raise DataError that names people or groups with images in both parts of a split that the data comes with.

    So are images that the folders of both parts contain, as if one is the other, or inside it.
    """
    if samples.val_root and (shared := _find_shared(samples, samples.val_root)):
        raise DataError(
            f"{len(shared)} images are in training and in validation, as the folders of both contain them "
            f"({first_names(shared)}); pass folders without common images, or --allow-leaks: {samples.val_root}"
        )
    if not samples.has_split or not samples.has_groups:
        return
    table = samples.table[samples.table["person"] != samples.table["path"]]
    counts = table.groupby("person")["part"].nunique()
    if both := sorted(counts.index[counts > 1]):
        what = "people" if samples.scheme.tasks else "groups"
        raise DataError(
            f"{len(both)} {what} are in training and in validation, which inflates the scores: {first_names(both, 8)}; "
            f"move each into one part, or pass --allow-leaks: {samples.root}"
        )


def _find_shared(samples: Samples, val_root: Path) -> list[str]:
    """Return the files that are images of both parts, sorted; the parts have a folder each."""
    paths, parts = samples.table["path"], samples.table["part"]
    train, val = (
        {f"{root}/{path}" for path in paths[parts == part].tolist()}
        for part, root in (("train", samples.root.resolve()), ("val", val_root.resolve()))
    )
    return sorted(train & val)
