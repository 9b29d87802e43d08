"""Predictions and ground truth joined on ImageID, for evaluation. No torch, no pandas."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.classes import Flags, Numbers, read_classes, read_label_sets
from data.listing import is_given
from data.names import canonical_name, first_names
from data.tables import (
    GT_CSV,
    OK,
    OUTPUT_CSV,
    PERSONS_CSV,
    PROBABILITY,
    SCHEME_JSON,
    STATUS,
    UNSURE,
    Table,
    read_table,
)
from labels import MASKED_FACES, MULTI, LabelScheme
from metrics import Counted, Matrix, confusion_matrix, count
from runtime.errors import DataError
from runtime.files import existing_folder
from runtime.json_files import read_json_object
from set_metrics import SetCounts, count_sets

PERSON_COLUMNS = ("person", "id")

Rows = dict[str, dict[str, str]]  # ImageID as canonical_name -> column -> text


@dataclass(frozen=True)
class LabelledPredictions:
    """Ground truth and prediction of every image as class numbers, and the person in it, in the order of gt.csv."""

    scheme: LabelScheme
    ground_truth: Numbers  # (images,)
    predictions: Numbers  # (images,), num_classes for an image without a prediction
    persons: Numbers | None = None  # (images,), numbered from 0; None if persons are not known
    probabilities: NDArray[np.float64] | None = (
        None  # (images, classes), nan without a prediction; None without columns
    )
    unsure: NDArray[np.bool_] | None = None  # (images,); None without a column of the status

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

    def count(self, sample_weight: Matrix | None = None) -> Counted:
        """Return what the scores are computed from: the matrix, or without tasks the counts of the classes."""
        return count(self.ground_truth, self.predictions, self.scheme, sample_weight)


@dataclass(frozen=True)
class LabelledSets:
    """Ground truth and prediction of every image as labels of which it has any number, in the order of gt.csv."""

    scheme: LabelScheme
    ground_truth: Flags  # (images, classes)
    predictions: Flags  # (images, classes), all False for an image without a prediction
    answered: Flags  # (images,)
    persons: Numbers | None = None  # (images,), numbered from 0; None if persons are not known

    @property
    def without_prediction(self) -> int:
        """Return the number of images without a prediction."""
        return int((~self.answered).sum())

    def count(self, sample_weight: Matrix | None = None) -> SetCounts:
        """Return what the scores are computed from; `sample_weight` (images,) is 1 for each image if it is None."""
        return count_sets(self.ground_truth, self.predictions, self.answered, sample_weight)


Labelled = LabelledPredictions | LabelledSets


def read_predictions(
    gt_dir: Path,
    pred_dir: Path,
    persons: str | None = None,
    variables: tuple[str, str] = ("SM_GROUND_TRUTH_DIR", "SM_OUTPUT_DATA_DIR"),
) -> Labelled:
    """Join {gt_dir}/gt.csv and {pred_dir}/output.csv on ImageID, whatever read_table calls the columns.

    Classes are those of masked faces, or of a scheme.json (LabelScheme.to_dict) beside output.csv, where inference
    writes it. Persons come from the csv file `persons`, else from {gt_dir}/persons.csv, else from a column `person` or
    `id` of gt.csv; a column of gt.csv with another value for each image is ignored with a warning. Probabilities and
    which predictions are unsure come from the columns that inference adds to output.csv. `variables` name both folders
    in messages. Raises DataError if a table is damaged, the two name different images, probabilities are of other
    classes, or a class number may be a class name.
    """
    existing_folder(gt_dir, variables[0], GT_CSV)
    existing_folder(pred_dir, variables[1], f"{OUTPUT_CSV} of inference.py")
    truth_rows, truth_column = _read_answers(gt_dir / GT_CSV)
    predicted_rows, predicted_column = _read_answers(pred_dir / OUTPUT_CSV)
    _check_same_images(truth_rows, predicted_rows, pred_dir / OUTPUT_CSV)
    scheme, named = _read_scheme(pred_dir / SCHEME_JSON)
    texts = [row["ans"] for row in truth_rows.values()]
    predicted = [predicted_rows[key]["ans"] for key in truth_rows]
    people = _read_persons(truth_rows, gt_dir, persons)
    _check_probabilities(next(iter(predicted_rows.values())), scheme.num_classes, pred_dir / OUTPUT_CSV)
    if scheme.kind == MULTI:
        truth = read_label_sets(texts, scheme, gt_dir / GT_CSV, column=truth_column)
        sets = read_label_sets(
            predicted, scheme, pred_dir / OUTPUT_CSV, column=predicted_column, predicted=True, named=named
        )
        return LabelledSets(scheme, truth, sets, np.array([text != "" for text in predicted]), people)
    ground_truth = read_classes(texts, scheme, gt_dir / GT_CSV, column=truth_column)
    predictions = read_classes(
        predicted, scheme, pred_dir / OUTPUT_CSV, column=predicted_column, predicted=True, named=named
    )
    rows = [predicted_rows[key] for key in truth_rows]
    return LabelledPredictions(
        *(scheme, ground_truth, predictions, people),
        probabilities=_read_probabilities(rows, scheme.num_classes, pred_dir / OUTPUT_CSV),
        unsure=_read_unsure(rows),
    )


def _check_probabilities(row: dict[str, str], num_classes: int, path: Path) -> None:
    """Raise DataError if there are columns of probabilities, but of another number of classes: they are of others."""
    found = {name for name in row if name.startswith(PROBABILITY) and name.removeprefix(PROBABILITY).isdecimal()}
    if found and found != {f"{PROBABILITY}{label}" for label in range(num_classes)}:
        raise DataError(
            f"{path.name} has {len(found)} columns of probabilities, expected {PROBABILITY}0 to "
            f"{PROBABILITY}{num_classes - 1}, one for each class; put the {SCHEME_JSON} of that inference beside it, "
            f"or leave these columns out: {path}"
        )


def _read_probabilities(rows: Sequence[dict[str, str]], num_classes: int, path: Path) -> NDArray[np.float64] | None:
    """Return the columns of probabilities (images, classes), nan where there are none, or None without the columns."""
    names = [f"{PROBABILITY}{label}" for label in range(num_classes)]
    if names[0] not in rows[0]:
        return None
    try:
        found = np.array([[float(row[name] or "nan") for name in names] for row in rows])
    except ValueError as error:
        raise DataError(f"a probability in {path.name} is not a number ({error}): {path}") from None
    is_predicted = np.array([bool(row["ans"]) for row in rows])
    if not ((found >= 0) & (found <= 1))[is_predicted].all():
        raise DataError(f"{path.name} has a prediction with a probability that is not between 0 and 1: {path}")
    return found


def _read_unsure(rows: Sequence[dict[str, str]]) -> NDArray[np.bool_] | None:
    """Return which predictions have the status unsure, (images,); None if no column has the status of all images.

    A column of that name may be the user's own: in ours, images with a prediction are ok or unsure, and no others.
    """
    if STATUS not in rows[0] or not all(bool(row["ans"]) == (row.get(STATUS) in (OK, UNSURE)) for row in rows):
        return None
    return np.array([row[STATUS] == UNSURE for row in rows])


def _read_answers(path: Path) -> tuple[Rows, str]:
    """Return the rows of a table, each with its class as `ans`, and what the column of the classes is called."""
    table = read_table(path, "ans")
    rows = [
        {name: text for name, text in row.items() if name != table.answer} | {"ans": row[table.answer]}
        for row in table.rows
    ]
    return _by_image(replace(table, rows=rows), path), table.answer


def _by_image(table: Table, path: Path) -> Rows:
    """Return the other columns of each row by ImageID; raise DataError if an image has several rows."""
    keys = [canonical_name(name) for name in table.names]
    times = Counter(keys)
    if repeated := [key for key in times if times[key] > 1]:
        raise DataError(f"{path.name} has several rows for {_some(repeated)}, expected one for each: {path}")
    rows = [{name: text for name, text in row.items() if name != table.image} for row in table.rows]
    return dict(zip(keys, rows, strict=True))


def _check_same_images(truth_rows: Rows, predicted_rows: Rows, path: Path) -> None:
    """Raise DataError unless both tables name the same images."""
    if missing := [key for key in truth_rows if key not in predicted_rows]:
        raise DataError(f"{OUTPUT_CSV} has no row for {_some(missing)}, expected all images of {GT_CSV}: {path}")
    if unknown := [key for key in predicted_rows if key not in truth_rows]:
        raise DataError(f"{OUTPUT_CSV} has rows for {_some(unknown)}, expected only images of {GT_CSV}: {path}")


def _some(keys: Sequence[str]) -> str:
    """Return the number of images and the names of the first three."""
    images = "1 image" if len(keys) == 1 else f"{len(keys)} images"
    return f"{images} ({first_names(keys)})"


def _read_scheme(path: Path) -> tuple[LabelScheme, bool]:
    """Return the label scheme of a file, or that of masked faces, and whether output.csv certainly holds names."""
    if not is_given(path):
        return MASKED_FACES, False
    try:
        record = read_json_object(path)
        return LabelScheme.from_dict(record), record.get("answers") == "name"
    except (ValueError, TypeError, KeyError, AttributeError, OSError, DataError) as error:
        reason = f"without {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"{path.name} is not a label scheme, expected the file that inference.py writes ({reason}): {path}"
        ) from None


def _read_persons(truth_rows: Rows, gt_dir: Path, file: str | None) -> Numbers | None:
    """Return the person in each image, numbered from 0, or None if persons are not known.

    A csv file of persons has priority over a column of gt.csv, which may number the rows.
    """
    column = _person_column(truth_rows)
    path = Path(file) if file else gt_dir / PERSONS_CSV
    explicit = bool(file) or is_given(path)
    if not explicit and column is None:
        return None
    if explicit and column:
        _warn(f"persons are those of {path.name}, the column {column!r} of {GT_CSV} is ignored")
    path = path if explicit else gt_dir / GT_CSV
    rows = _by_image(read_table(path, *PERSON_COLUMNS), path) if explicit else truth_rows
    column = _person_column(rows)
    assert column, "read_table has checked the columns"
    ids = {key: canonical_name(row[column]) for key, row in rows.items()}
    if unknown := [key for key in truth_rows if not ids.get(key)]:
        raise DataError(f"{path.name} has no person for {_some(unknown)}, expected one for each: {path}")
    persons = np.unique([ids[key] for key in truth_rows], return_inverse=True)[1]
    if 1 < len(truth_rows) == persons.max() + 1:
        _warn(f"the column {column!r} has another value for each image, so it groups no images: {path}")
        return persons if explicit else None
    return persons


def _person_column(rows: Rows) -> str | None:
    """Return the column that names the person in each image, or None if there is none."""
    return next((column for column in PERSON_COLUMNS if column in next(iter(rows.values()))), None)


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)
