"""Truths and answers, joined on ImageID: what evaluation scores. No torch, no pandas."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.tables import ANSWERS, SCHEME, read_table
from labels import MASKED_FACES, LabelScheme
from metrics import Matrix, confusion_matrix
from runtime.errors import DataError
from runtime.files import existing_folder

TRUTHS, PERSONS = "gt.csv", "persons.csv"
PERSON_COLUMNS = ("person", "id")

Numbers = NDArray[np.int64]
Rows = dict[str, dict[str, str]]  # ImageID -> column -> text


@dataclass(frozen=True)
class Answers:
    """The truth and the answer for every image, as class numbers in the order of gt.csv, and whose image it is."""

    scheme: LabelScheme
    truths: Numbers  # (images,)
    answers: Numbers  # (images,), num_classes where there is no answer
    persons: Numbers | None = None  # (images,) counted from 0, None if gt.csv does not say

    @property
    def unanswered(self) -> int:
        return int((self.answers == self.scheme.num_classes).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Of the confusion matrix: (classes, classes), and one more column if an image has no answer."""
        return self.scheme.num_classes, self.scheme.num_classes + (self.unanswered > 0)

    def matrix(self, sample_weight: Matrix | None = None) -> Matrix:
        """Return the confusion matrix, of `shape`; `sample_weight` (images,) is 1 for each image if it is None."""
        return confusion_matrix(self.truths, self.answers, *self.shape, sample_weight)


def read_answers(gt_dir: Path, pred_dir: Path, persons: str | None = None) -> Answers:
    """Join {gt_dir}/gt.csv and {pred_dir}/output.csv on ImageID; raises DataError unless both name the same images.

    Classes are those of masked faces, or of a scheme.json (LabelScheme.to_dict) that inference left beside its
    answers. Persons come from the csv file `persons`, from a column `person` or `id` of gt.csv, or from
    {gt_dir}/persons.csv.
    """
    existing_folder(gt_dir, "SM_GROUND_TRUTH_DIR", TRUTHS)
    existing_folder(pred_dir, "SM_OUTPUT_DATA_DIR", f"{ANSWERS} of inference.py")
    truths = _read_rows(gt_dir / TRUTHS, "ans")
    answers = _read_rows(pred_dir / ANSWERS, "ans")
    _check_same_images(truths, answers, pred_dir / ANSWERS)
    scheme = _read_scheme(pred_dir / SCHEME)
    truth = _read_classes([row["ans"] for row in truths.values()], scheme, gt_dir / TRUTHS)
    answer = _read_classes([answers[key]["ans"] for key in truths], scheme, pred_dir / ANSWERS, inferred=True)
    return Answers(scheme, truth, answer, _read_persons(truths, gt_dir, persons))


def _read_rows(path: Path, *columns: str) -> Rows:
    """A table by ImageID, with one of `columns` at least; raises DataError where an image has several rows."""
    table = read_table(path, *columns)
    times = Counter(table.names)
    if repeated := [key for key in times if times[key] > 1]:
        raise DataError(f"{path.name} has several rows for {_some(repeated)}, expected one for each: {path}")
    return {row["ImageID"]: row for row in table.rows}


def _check_same_images(truths: Rows, answers: Rows, path: Path) -> None:
    if missing := [key for key in truths if key not in answers]:
        raise DataError(f"{ANSWERS} has no row for {_some(missing)}, expected all that {TRUTHS} lists: {path}")
    if unknown := [key for key in answers if key not in truths]:
        raise DataError(f"{ANSWERS} has rows for {_some(unknown)}, expected only what {TRUTHS} lists: {path}")


def _some(keys: Sequence[str]) -> str:
    """How many images, and the first three by name."""
    images = "1 image" if len(keys) == 1 else f"{len(keys)} images"
    return f"{images} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"


def _read_scheme(path: Path) -> LabelScheme:
    if not path.exists():
        return MASKED_FACES
    try:
        return LabelScheme.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path.name} is no label scheme, expected what inference.py writes ({error}): {path}"
        ) from None


def _read_classes(texts: Sequence[str], scheme: LabelScheme, path: Path, *, inferred: bool = False) -> Numbers:
    """Class numbers of a column that holds numbers or names; num_classes for an empty text, if `inferred`."""
    numbers = {text: label for label in range(scheme.num_classes) for text in (str(label), f"{label}.0")}
    names = {name: label for label, name in enumerate(scheme.classes)}
    blank = {"": scheme.num_classes} if inferred else {}
    # Where a class is named like another's number, a person means the name and inference the number.
    readings = (numbers | blank, names | blank) if inferred else (names, numbers)
    for reading in readings:
        if all(text in reading for text in texts):
            return np.array([reading[text] for text in texts], dtype=np.int64)
    strangers = [text for text in texts if not any(text in reading for reading in readings)]
    wrong = f"column ans holds {strangers[0]!r}" if strangers else "column ans mixes class numbers and names"
    raise DataError(f"{wrong}, expected only numbers from 0 to {scheme.num_classes - 1} or only class names: {path}")


def _read_persons(truths: Rows, gt_dir: Path, file: str | None) -> Numbers | None:
    """Whose image each is, counted from 0; None if nothing says so."""
    rows, path = truths, gt_dir / TRUTHS
    if file or not any(column in next(iter(truths.values())) for column in PERSON_COLUMNS):
        path = Path(file) if file else gt_dir / PERSONS
        if not file and not path.exists():
            return None
        rows = _read_rows(path, *PERSON_COLUMNS)
    ids = {key: row.get("person") or row.get("id") for key, row in rows.items()}
    if unknown := [key for key in truths if not ids.get(key)]:
        raise DataError(f"{path.name} names no person for {_some(unknown)}, expected one for each: {path}")
    return np.unique([ids[key] for key in truths], return_inverse=True)[1]
