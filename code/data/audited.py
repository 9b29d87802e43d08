"""The images that an audit looks at, from up to three folders: train, validation and eval. No torch."""

import csv
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.manifest import fits_manifest
from data.names import canonical_name
from data.readers import read_apart, read_dataset
from data.samples import Samples
from data.several_labels import AUTO, apply_task, match_task
from data.tables import find_images
from data.validation import read_validation
from labels import LabelScheme
from runtime.errors import DataError

TRAIN, VALIDATION, EVAL = PARTS = "train", "validation", "eval"
SPLIT_CSV = "split.csv"


@dataclass(frozen=True)
class AuditedImage:
    """An image: its file, its path below the folder of all parts, its part, and its label (empty if unknown).

    `row` is its path in split.csv and oof.csv, empty for an image that is not in the folder to train on.
    """

    file: Path
    path: str
    part: str
    label: str
    row: str = ""


def read_images(
    dataset: str,
    train_dir: Path,
    validation_dir: Path | None,
    eval_dir: Path | None,
    split: Mapping[str, str],
    labels_dir: Path | None = None,
) -> tuple[list[AuditedImage], LabelScheme]:
    """Return all images and the classes of those in train, whose labels are in `labels_dir` if it has a manifest.

    `split` tells by path in train which images a training validated with ("val"); without it, the split that train
    comes with does. It counts only without a validation folder. A folder that does not exist or is empty is left out,
    except train, and named in the log, as its name may be mistyped. Raises DataError as the readers do.
    """
    labels_dir = _if_read("SM_CHANNEL_LABELS", labels_dir, fits_manifest, "a manifest")
    if labels_dir:
        train = read_apart(dataset, train_dir, labels_dir)
    else:
        train = read_dataset(dataset, train_dir, "SM_CHANNEL_TRAIN")
    train = apply_task(train, AUTO)
    validation_dir = _if_read("SM_CHANNEL_VALIDATION", validation_dir, has_files, "files")
    eval_dir = _if_read("SM_CHANNEL_EVAL", eval_dir, has_files, "files")
    if not split and train.has_split:
        split = dict(zip(train.table["path"], train.table["part"], strict=True))
    spelled = {canonical_name(name): name for name in train.scheme.classes}
    images = _labelled(train, train_dir, TRAIN, {} if validation_dir else split, spelled)
    if validation_dir:
        validation = match_task(read_validation(dataset, validation_dir), train)
        images += _labelled(validation, validation_dir, VALIDATION, {}, spelled)
    if eval_dir:
        _, files = find_images(eval_dir)  # info.csv may list an image twice
        images += [AuditedImage(file, _below(EVAL, eval_dir, file), EVAL, "") for file in dict.fromkeys(files)]
    return images, train.scheme


def find_split(output_dir: Path) -> dict[str, str]:
    """Return path -> part of the images of the newest run below a folder, from its split.csv; empty without a run.

    If the run had a folder for validation, a path may be in both parts; here it is that of the image to train on.
    """
    found = sorted(output_dir.glob(f"*/{SPLIT_CSV}"), key=lambda path: path.stat().st_mtime)
    if not found:
        return {}
    try:
        with found[-1].open(newline="") as file:
            rows = [(row["path"], row["split"]) for row in csv.DictReader(file)]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{SPLIT_CSV} cannot be read ({error}), expected columns path and split: {found[-1]}") from None
    return dict(rows) | {path: part for path, part in rows if part == "train"}


def _labelled(
    samples: Samples, folder: Path, part: str, split: Mapping[str, str], spelled: Mapping[str, str]
) -> list[AuditedImage]:
    """Return the images of a data set; classes are `spelled` as in train, by their canonical name."""
    texts = samples.label_texts([spelled.get(canonical_name(name), name) for name in samples.scheme.classes])
    return [
        AuditedImage(
            file,
            _below(part, folder, file),
            VALIDATION if split.get(path) == "val" else part,
            text,
            path if part == TRAIN else "",
        )
        for path, file, text in zip(samples.table["path"], samples.paths, texts, strict=True)
    ]


def _below(part: str, folder: Path, file: Path) -> str:
    return f"{part}/{file.relative_to(folder).as_posix()}"


def _if_read(variable: str, folder: Path | None, is_read: Callable[[Path], bool], content: str) -> Path | None:
    """Return a folder that is read, else None; print the name of one that was given."""
    if folder is None or is_read(folder):
        return folder
    print(f"{variable} is not a folder with {content}, so it is not read: {folder}", file=sys.stderr)
    return None


def has_files(folder: Path) -> bool:
    """Return True for a folder that exists and is not empty."""
    return folder.is_dir() and any(folder.iterdir())
