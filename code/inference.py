"""Label images with a trained model.

    SM_CHANNEL_EVAL=data/eval SM_CHANNEL_MODEL=model SM_OUTPUT_DATA_DIR=output python code/inference.py

In: images, with or without info.csv beside `images/`; a model folder, its parent, or a model.tar.gz. Out: output.csv
with one row for each row of info.csv, in its order. The model describes how images are prepared and what its classes
mean; an image that cannot be read keeps its row, without a prediction.
"""

import base64
import hashlib
import os
import sys
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Self

from data.template_process import start_early
from options.inference import InferenceConfig, InferencePaths
from runtime.arguments import parse
from runtime.failure import guard, write_message
from runtime.process import limit_openmp_spinning, name_unknown_user

if __name__ == "__main__":  # answer --help and a mistyped flag before torch, which takes seconds to import
    guard(lambda: parse("inference.py", sys.argv[1:], os.environ, InferencePaths, InferenceConfig))
    name_unknown_user()
    limit_openmp_spinning()
    start_early()

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration import UnsureThresholds
from data.decode_board import DecodeLimits
from data.decoding import Outcome, stream
from data.digests import file_digests
from data.image_store import apply_bad_image_policy
from data.images import Pixels, Preparation
from data.tables import OK, PROBABILITY, STATUS, UNSURE, find_images, write_predictions
from description import Description
from labelling.labelling import Labelling, labelling_of
from labelling.outputs import outputs_of
from labels import MASKED_FACES
from metrics import log_line
from model_files import load
from predictor import Predictor
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process, runtime_versions, select_device, select_dtype
from runtime.errors import ConfigError, DataError, ImageError, ModelError
from runtime.journal import Journal
from training.tracking import progress

__all__ = ["inference", "load_model", "main", "predict"]


def main() -> None:
    """Run the command: read options and SM_* variables, label images, write output.csv."""
    paths, config = parse("inference.py", sys.argv[1:], os.environ, InferencePaths, InferenceConfig)
    inference(paths.data_dir, paths.model_dir, paths.output_dir, config)


def inference(data_dir: str | Path, model_dir: str | Path, output_dir: str | Path, args: InferenceConfig) -> Path:
    """Label every image of `data_dir` and return the path of output.csv.

    The predictions of each batch are written to a journal beside output.csv, so a job that was killed resumes and
    leaves the same bytes. Raises a JobError for every mistake that users can correct; no output.csv is written then.
    """
    configure_process()
    use_deterministic_kernels(True, gradients=False)
    device = select_device(args.device)
    table, files = find_images(Path(data_dir))
    model, description = load_described(Path(model_dir), args.model, args.resize)
    predictor = create_predictor(model, description, device, args)

    started = time.monotonic()
    steps = -(-len(files) // args.batch_size)
    identity = fingerprint(files, model, description, args) | runtime_versions(device)
    with Journal(Path(output_dir) / "output.csv.journal", identity) as journal:
        done = read_unchanged(journal, files)
        if done:
            print(f"resumed after {len(done)} of {steps} batches", flush=True)
        rest = files[len(done) * args.batch_size :]
        batches = stream(
            rest,
            description.preparation,
            batch_size=args.batch_size,
            processes=args.threads,
            limits=DecodeLimits.from_options(args.decode_seconds, args.decode_memory_mb),
        )
        for batch in progress(predict(predictor, batches), steps, "infer", len(done)):
            journal.append(batch.to_record())
            done.append(batch)

        try:
            bad = find_bad_images(done, args.on_bad_image)
        except DataError:
            journal.remove()
            raise
        probabilities = np.concatenate([batch.probabilities for batch in done])  # (images, classes)
        labelling = labelling_of(description.scheme, description.thresholds)
        names = description.scheme.classes if args.answers == "name" else None
        columns = {table.answer: prediction_column(probabilities, bad, names, labelling)}
        unsure = find_unsure(probabilities, bad, description.unsure_thresholds)
        columns |= further_columns(probabilities, bad, unsure, args)
        output = write_predictions(Path(output_dir), table.with_columns(columns), description.scheme, args.answers)
        journal.remove()
    for index in sorted(bad):
        print(f"no prediction: {bad[index]}", file=sys.stderr)
    speed = len(rest) / (time.monotonic() - started)
    counts = {"pictures": len(files), "unreadable": len(bad)}
    if description.unsure_thresholds:
        counts["unsure"] = len(unsure)
    summary = f"{log_line(counts)} images_per_second={speed:.1f}; output: {output}"
    print(summary, flush=True)
    write_message(summary)
    return output


def load_model(
    saved_model: str | Path, num_classes: int | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """Load the model of a folder, archive or old best.pth onto a device, in evaluation mode (the original's function).

    Raises ModelError for anything else, or if the model does not have `num_classes` classes.
    """
    model, description = load(Path(saved_model))
    if num_classes not in (None, description.scheme.num_classes):
        raise ModelError(
            f"the model has {description.scheme.num_classes} classes, expected {num_classes}: {saved_model}"
        )
    return model.to(device)


def create_predictor(
    model: nn.Module, description: Description, device: torch.device, args: InferenceConfig
) -> Predictor:
    """Return the network at work, with its own temperature and the activation of its labels."""
    return Predictor(
        *(model, description.preparation, device, select_dtype(args.precision, device)),
        tta=args.tta,
        temperature=description.temperature,
        activation=outputs_of(description.scheme).activation,
    )


def load_described(
    model_dir: Path, architecture: str | None, size: tuple[int, int] | None
) -> tuple[nn.Module, Description]:
    """Load a model with its description; `--model` and `--resize` describe an old best.pth, which has none.

    Raises ConfigError if they contradict the description of a newer model.
    """
    legacy = Description(architecture or "BaseModel", "joint", MASKED_FACES, Preparation(size or (128, 96)))
    model, description = load(model_dir, legacy)
    for flag, asked, found in (
        ("--model", architecture, description.architecture),
        ("--resize", size, description.preparation.size),
    ):
        if asked is not None and asked != found:
            raise ConfigError(
                f"{flag} {asked} contradicts the model, which was trained with {found}; leave the flag out"
            )
    return model, description


@dataclass(frozen=True)
class BatchPredictions:
    """The predictions of one batch: probabilities (batch, classes), and for each image its error or None and digest."""

    probabilities: NDArray[np.float32]
    errors: list[ImageError | None]
    digests: list[bytes]  # of the files, as data/digests.py

    def to_record(self) -> dict[str, Any]:
        """Return the predictions as JSON, bit for bit."""
        return {
            "probabilities": base64.b64encode(self.probabilities.astype("<f4").tobytes()).decode(),
            "errors": [error and [str(error), error.code] for error in self.errors],
            "sha256": [digest.hex() for digest in self.digests],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Create the predictions from the JSON of `to_record`."""
        errors = [error and ImageError(*error) for error in record["errors"]]
        probabilities = np.frombuffer(base64.b64decode(record["probabilities"]), "<f4")
        return cls(probabilities.reshape(len(errors), -1), errors, [bytes.fromhex(text) for text in record["sha256"]])


def fingerprint(
    files: Sequence[Path], model: nn.Module, description: Description, args: InferenceConfig
) -> dict[str, Any]:
    """Return what the predictions depend on besides the contents of the files, as JSON: model, paths and batches.

    The contents are in the records of the journal, which have the digest of each file that was predicted.
    """
    weights, paths = hashlib.sha256(), hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for path in files:
        paths.update(f"{path}\n".encode())
    return {
        "model": description.to_dict(),
        "weights": weights.hexdigest(),
        "paths": paths.hexdigest(),
        "batch_size": args.batch_size,
        "precision": args.precision,
        "tta": args.tta,
    }


def read_unchanged(journal: Journal, files: Sequence[Path]) -> list[BatchPredictions]:
    """Return the batches of the journal up to the first with a file that has changed since; cut off the others."""
    batches = [BatchPredictions.from_record(record) for record in journal.records]
    digests = file_digests(files[: sum(len(batch.digests) for batch in batches)])
    done = list(takewhile(lambda batch: batch.digests == list(islice(digests, len(batch.digests))), batches))
    journal.keep(len(done))
    return done


def predict(predictor: Predictor, batches: Iterable[tuple[Pixels, list[Outcome]]]) -> Iterator[BatchPredictions]:
    """Yield the predictions of prepared batches (batch, height, width, 3)."""
    for pixels, outcomes in batches:
        errors, digests = [outcome.error for outcome in outcomes], [outcome.digest for outcome in outcomes]
        yield BatchPredictions(predictor.probabilities(pixels), errors, digests)


def find_bad_images(done: Sequence[BatchPredictions], policy: str) -> dict[int, ImageError]:
    """Return the error of each image that cannot be used, by its row.

    Raises DataError where `--on-bad-image` says so, and if no image can be used.
    """
    errors = [error for batch in done for error in batch.errors]
    bad = {index: error for index, error in enumerate(errors) if error}
    apply_bad_image_policy(bad, len(errors), policy, 1.0)
    if len(bad) == len(errors):
        raise DataError(f"none of the {len(errors)} images can be used: {bad[0]}")
    return bad


def prediction_column(
    probabilities: NDArray[np.float32], bad: Container[int], names: Sequence[str] | None, labelling: Labelling
) -> list[object]:
    """Return the labels of each image from probabilities (images, classes), by number or name; None for a bad one."""
    return _readable(labelling.cells(probabilities, names), bad)


def find_unsure(
    probabilities: NDArray[np.float32], bad: Container[int], thresholds: UnsureThresholds | None
) -> set[int]:
    """Return the rows whose prediction is unsure, from probabilities (images, classes)."""
    found = np.flatnonzero(thresholds.is_unsure(probabilities)).tolist() if thresholds else []
    return {row for row in found if row not in bad}


def further_columns(
    probabilities: NDArray[np.float32], bad: Mapping[int, ImageError], unsure: Container[int], args: InferenceConfig
) -> dict[str, list[object]]:
    """Return the columns of output.csv that were asked for, from probabilities (images, classes)."""
    columns: dict[str, list[object]] = {}
    if args.status:
        rows = range(len(probabilities))
        columns[STATUS] = [bad[row].code if row in bad else UNSURE if row in unsure else OK for row in rows]
    if args.save_probabilities:
        named = enumerate(probabilities.T)
        columns |= {f"{PROBABILITY}{label}": _readable(column, bad) for label, column in named}
    return columns


def _readable(values: Iterable[object], bad: Container[int]) -> list[object]:
    """Replace the values of bad images by None."""
    return [None if index in bad else value for index, value in enumerate(values)]


if __name__ == "__main__":
    guard(main)
