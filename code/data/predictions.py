"""Predictions and ground truth joined on ImageID, for evaluation. No torch, no pandas."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.tables import GT_CSV, OUTPUT_CSV, PERSONS_CSV, SCHEME_JSON, read_table
from labels import MASKED_FACES, LabelScheme
from metrics import Matrix, confusion_matrix
from runtime.errors import DataError
from runtime.files import existing_folder

PERSON_COLUMNS = ("person", "id")

Numbers = NDArray[np.int64]
Rows = dict[str, dict[str, str]]  # ImageID -> column -> text


@dataclass(frozen=True)
class LabelledPredictions:
    """Ground truth and prediction of every image as class numbers, and the person in it, in the order of gt.csv."""

    scheme: LabelScheme
    ground_truth: Numbers  # (images,)
    predictions: Numbers  # (images,), num_classes for an image without a prediction
    persons: Numbers | None = None  # (images,), numbered from 0; None if persons are not known

    @property
    def without_prediction(self) -> int:
        """Return the number of images without a prediction."""
        return int((self.predictions == self.scheme.num_classes).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the confusion matrix; images without a prediction need a column of their own."""
        return self.scheme.num_classes, self.scheme.num_classes + (self.without_prediction > 0)

    def matrix(self, sample_weight: Matrix | None = None) -> Matrix:
        """Return the confusion matrix, of `shape`; `sample_weight` (images,) is 1 for each image if it is None."""
        return confusion_matrix(self.ground_truth, self.predictions, *self.shape, sample_weight)


def read_predictions(gt_dir: Path, pred_dir: Path, persons: str | None = None) -> LabelledPredictions:
    """Join {gt_dir}/gt.csv and {pred_dir}/output.csv on ImageID.

    Classes are those of masked faces, or of a scheme.json (LabelScheme.to_dict) beside output.csv, where inference
    writes it. Persons come from the csv file `persons`, from a column `person` or `id` of gt.csv, or from
    {gt_dir}/persons.csv. Raises DataError if a table is damaged or the two name different images.
    """
    existing_folder(gt_dir, "SM_GROUND_TRUTH_DIR", GT_CSV)
    existing_folder(pred_dir, "SM_OUTPUT_DATA_DIR", f"{OUTPUT_CSV} of inference.py")
    truth_rows = _read_rows(gt_dir / GT_CSV, "ans")
    predicted_rows = _read_rows(pred_dir / OUTPUT_CSV, "ans")
    _check_same_images(truth_rows, predicted_rows, pred_dir / OUTPUT_CSV)
    scheme = _read_scheme(pred_dir / SCHEME_JSON)
    ground_truth = _read_classes([row["ans"] for row in truth_rows.values()], scheme, gt_dir / GT_CSV)
    texts = [predicted_rows[key]["ans"] for key in truth_rows]
    predictions = _read_classes(texts, scheme, pred_dir / OUTPUT_CSV, predicted=True)
    return LabelledPredictions(scheme, ground_truth, predictions, _read_persons(truth_rows, gt_dir, persons))


def _read_rows(path: Path, *columns: str) -> Rows:
    """Read a table with at least one of `columns` by ImageID; raise DataError if an image has several rows."""
    table = read_table(path, *columns)
    times = Counter(table.names)
    if repeated := [key for key in times if times[key] > 1]:
        raise DataError(f"{path.name} has several rows for {_some(repeated)}, expected one for each: {path}")
    return {row["ImageID"]: row for row in table.rows}


def _check_same_images(truth_rows: Rows, predicted_rows: Rows, path: Path) -> None:
    """Raise DataError unless both tables name the same images."""
    if missing := [key for key in truth_rows if key not in predicted_rows]:
        raise DataError(f"{OUTPUT_CSV} has no row for {_some(missing)}, expected all images of {GT_CSV}: {path}")
    if unknown := [key for key in predicted_rows if key not in truth_rows]:
        raise DataError(f"{OUTPUT_CSV} has rows for {_some(unknown)}, expected only images of {GT_CSV}: {path}")


def _some(keys: Sequence[str]) -> str:
    """Return the number of images and the names of the first three."""
    images = "1 image" if len(keys) == 1 else f"{len(keys)} images"
    return f"{images} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"


def _read_scheme(path: Path) -> LabelScheme:
    """Return the label scheme of a file, and that of masked faces if there is none."""
    if not path.exists():
        return MASKED_FACES
    try:
        return LabelScheme.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path.name} is not a label scheme, expected the file that inference.py writes ({error}): {path}"
        ) from None


def _read_classes(texts: Sequence[str], scheme: LabelScheme, path: Path, *, predicted: bool = False) -> Numbers:
    """Return the class numbers of a column of numbers or names; an empty text is num_classes if `predicted`."""
    numbers = {text: label for label in range(scheme.num_classes) for text in (str(label), f"{label}.0")}
    names = {name: label for label, name in enumerate(scheme.classes)}
    blank = {"": scheme.num_classes} if predicted else {}
    # A class may be named like the number of another: then gt.csv means the name, and inference wrote the number.
    readings = (numbers | blank, names | blank) if predicted else (names, numbers)
    for reading in readings:
        if all(text in reading for text in texts):
            return np.array([reading[text] for text in texts], dtype=np.int64)
    unknown = [text for text in texts if not any(text in reading for reading in readings)]
    wrong = f"column ans contains {unknown[0]!r}" if unknown else "column ans mixes class numbers and names"
    raise DataError(f"{wrong}, expected only numbers from 0 to {scheme.num_classes - 1} or only class names: {path}")


def _read_persons(truth_rows: Rows, gt_dir: Path, file: str | None) -> Numbers | None:
    """Return the person in each image, numbered from 0, or None if persons are not known."""
    rows, path = truth_rows, gt_dir / GT_CSV
    if file or not any(column in next(iter(truth_rows.values())) for column in PERSON_COLUMNS):
        path = Path(file) if file else gt_dir / PERSONS_CSV
        if not file and not path.exists():
            return None
        rows = _read_rows(path, *PERSON_COLUMNS)
    ids = {key: row.get("person") or row.get("id") for key, row in rows.items()}
    if unknown := [key for key in truth_rows if not ids.get(key)]:
        raise DataError(f"{path.name} has no person for {_some(unknown)}, expected one for each: {path}")
    return np.unique([ids[key] for key in truth_rows], return_inverse=True)[1]
