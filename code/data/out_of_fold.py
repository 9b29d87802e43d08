"""Out-of-fold predictions: of every image by the model of cross-validation that was not trained on it. No torch.

    path,label,predicted,fold,probability_0,probability_1

`predictions.csv` has the images of one fold, `oof.csv` those of all. Paths are relative to the training images, as in
split.csv; label and predicted are numbers of classes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data.names import first_names
from labels import LabelScheme
from runtime.errors import DataError
from runtime.files import replacing
from runtime.json_files import read_json_object

PREDICTIONS_CSV, OOF_CSV, CV_JSON = "predictions.csv", "oof.csv", "cv.json"
_COLUMNS = ["path", "label", "predicted", "fold"]


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of one fold, or of several: one entry, or row, for each image."""

    paths: list[str]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]  # counted from 1
    probabilities: NDArray[np.float32]  # (images, classes)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Return the predicted classes, (images,)."""
        found: NDArray[np.int64] = self.probabilities.argmax(1)
        return found

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote; raises DataError for any other."""
        try:
            with path.open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            if header[:4] != _COLUMNS or not rows:
                raise ValueError(f"it starts with {','.join(header)[:80]!r}")
            values = np.array([row[4:] for row in rows], np.float32)
            labels, folds = (np.array([int(row[column]) for row in rows], np.int64) for column in (1, 3))
            if values.shape != (len(rows), len(header) - 4) or not 0 <= labels.min() <= labels.max() < len(values[0]):
                raise ValueError("its rows do not fit its columns")
            if not np.isfinite(values).all():
                raise ValueError("a probability is not finite")
        except (OSError, ValueError, IndexError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"{path.name} cannot be read as out-of-fold predictions ({reason}); run cross-validation again: {path}"
            ) from None
        return cls([row[0] for row in rows], labels, folds, values)

    def write(self, path: Path) -> None:
        """Write the predictions as csv; numbers come back with the same bits."""
        header = [*_COLUMNS, *(f"probability_{label}" for label in range(self.probabilities.shape[1]))]
        columns = zip(self.paths, self.labels, self.predicted, self.folds, self.probabilities, strict=True)
        with replacing(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([*first, *probabilities] for *first, probabilities in columns)

    def of_fold(self, fold: int) -> NDArray[np.bool_]:
        """Return which images are of a fold, (images,)."""
        found: NDArray[np.bool_] = self.folds == fold
        return found


def join_folds(parts: Sequence[OutOfFold]) -> OutOfFold:
    """Return the predictions of all folds, sorted by path; raises DataError for an image in two of them."""
    if len(found := {part.probabilities.shape[1] for part in parts}) > 1:
        raise DataError(f"the folds have different numbers of classes ({sorted(found)}); train them on the same data")
    paths = [path for part in parts for path in part.paths]
    order = sorted(range(len(paths)), key=paths.__getitem__)
    if twice := [paths[one] for one, other in pairwise(order) if paths[one] == paths[other]]:
        raise DataError(
            f"{len(twice)} images are in two folds ({first_names(twice)}), expected each in one; train all folds with "
            "the same data, --seed and number of folds"
        )
    labels, folds, probabilities = (
        np.concatenate(columns)[order]
        for columns in zip(*((part.labels, part.folds, part.probabilities) for part in parts), strict=True)
    )
    return OutOfFold([paths[index] for index in order], labels, folds, probabilities)


def find_out_of_fold(output_dir: Path, scheme: LabelScheme) -> OutOfFold | None:
    """Return the predictions in an output folder, oof.csv; None without one.

    Raises DataError if it cannot be read, or was made with other classes than those of `scheme`, as cv.json says.
    """
    path = output_dir / OOF_CSV
    if not path.exists():
        return None
    found = OutOfFold.read(path)
    try:
        theirs = LabelScheme.from_dict(read_json_object(output_dir / CV_JSON)["scheme"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{CV_JSON} beside {OOF_CSV} cannot be read ({error!r}); run cross-validation again: {path}"
        ) from None
    if theirs.classes != scheme.classes:
        raise DataError(
            f"{OOF_CSV} is of other classes than those of the images ({len(theirs.classes)} instead of "
            f"{len(scheme.classes)}, or other names); run cross-validation again, or remove it: {path}"
        )
    return found
