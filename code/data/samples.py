"""A data set as one table of images with person and label, whatever layout it was read from (readers.py). No torch.

Columns: `path` (relative to the root, with forward slashes), `person` (an opaque id of the person or group: its images
stay together in a split; an image of no group has its path), `label` (class number, or a text of several such as
`3|7`), one per task of the scheme, `part` ("train" or "val") if the data set comes with a split, and `weight` (of the
image's loss) if it has any. Rows are sorted by path, those of a folder for validation after all others, so the same
files give the same table on every machine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.listing import size_bytes
from labels import MULTI, LabelScheme, join_labels, split_labels


@dataclass(frozen=True)
class Samples:
    """The table of a data set, the folder that its paths are relative to, and what its labels mean."""

    root: Path
    table: pd.DataFrame
    scheme: LabelScheme
    ignored: Mapping[str, list[str]] = field(default_factory=dict)  # relative paths by reason, see layout.py
    notes: Sequence[str] = ()  # sentences about what its owner may not know, such as repeated rows
    has_label_texts: bool = False  # class names that may be several labels, such as `a|b` (several_labels.py)
    val_root: Path | None = None  # folder of the images of part "val", if they have a folder of their own

    @property
    def ignored_files(self) -> int:
        """Return the number of files, links and folders that are ignored."""
        return sum(map(len, self.ignored.values()))

    @cached_property
    def paths(self) -> list[Path]:
        """Return the path of every image, in the order of the table."""
        paths = self.table["path"].tolist()
        if self.val_root is None:
            return [self.root / path for path in paths]
        roots = {"train": self.root, "val": self.val_root}
        return [roots[part] / path for part, path in zip(self.table["part"].tolist(), paths, strict=True)]

    @cached_property
    def names(self) -> list[str]:
        """Return a name of each image that no other image has: the path and, if both parts have a folder, the part."""
        paths = self.table["path"].tolist()
        if self.val_root is None:
            return paths
        return [f"{part}:{path}" for part, path in zip(self.table["part"].tolist(), paths, strict=True)]

    @cached_property
    def labels(self) -> NDArray[Any]:
        """Return the class number of every image, (images,), or 0 and 1 of several labels, (images, classes)."""
        if self.scheme.kind == MULTI:
            return label_matrix(self.table["label"].tolist(), self.scheme.num_classes)
        return self.table["label"].to_numpy(np.int64)

    def label_at(self, index: int) -> int | NDArray[Any]:
        """Return the class number of an image, or 0 and 1 of several labels, (classes,)."""
        label = self.labels[index]
        return int(label) if self.labels.ndim == 1 else label

    def label_texts(self, names: Sequence[str]) -> list[str]:
        """Return the label of every image under these `names` of the classes; several are a text such as `a|b`."""
        cells = self.table["label"].tolist()
        if self.scheme.kind != MULTI:
            return [names[label] for label in cells]
        texts = {cell: join_labels(names[int(label)] for label in split_labels(cell)) for cell in set(cells)}
        return [texts[cell] for cell in cells]

    def class_counts(self, indices: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """Return the number of the images at `indices` that are of each class, (classes,)."""
        labels = self.labels[indices]
        several = labels.ndim > 1
        return labels.sum(0, np.int64) if several else np.bincount(labels, minlength=self.scheme.num_classes)

    @cached_property
    def weights(self) -> NDArray[np.float64] | None:
        """Return what the loss of every image is multiplied by, (images,), or None if the data set has no weights."""
        return self.table["weight"].to_numpy(np.float64) if "weight" in self.table else None

    @cached_property
    def has_groups(self) -> bool:
        """Return True if images belong together: some have the same person or are of the same group."""
        return bool((self.table["person"] != self.table["path"]).any())

    @property
    def has_split(self) -> bool:
        """Return True if the data set comes with a split."""
        return "part" in self.table

    def fingerprint(self) -> str:
        """Return a sha256 over path, label and size of every image, and its part if that is given.

        Its weight counts, if it has one, and its group unless its path contains it, as the path of a profile does.

        Contents do not count, so nothing is read for it; they are compared as the images are decoded (digests.py).
        Modification times do not count either: SageMaker copies the data for each job.
        """
        rows = zip(self.table["path"], self.table["label"], map(size_bytes, self.paths), strict=True)
        text = "\n".join(f"{path}\t{label}\t{size}" for path, label, size in rows)
        text += "\n" + "\n".join(self.scheme.classes)
        by_group = self.has_groups and not self.scheme.tasks
        for column, counts in (("part", self.has_split), ("person", by_group), ("weight", self.weights is not None)):
            if counts:
                text += f"\n{column}\n" + "\n".join(map(str, self.table[column]))
        return hashlib.sha256(text.encode()).hexdigest()


def tabulate(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows sorted by path."""
    return pd.DataFrame(rows, columns=columns).sort_values("path", ignore_index=True)


def label_matrix(cells: Sequence[str], num_classes: int) -> NDArray[np.uint8]:
    """Return the matrix of 0 and 1 (images, classes) of texts of class numbers."""
    distinct = sorted(set(cells))
    rows = np.zeros((len(distinct), num_classes), np.uint8)
    for row, cell in zip(rows, distinct, strict=True):
        row[[int(label) for label in split_labels(cell)]] = 1
    places = {cell: place for place, cell in enumerate(distinct)}
    return rows[[places[cell] for cell in cells]]
