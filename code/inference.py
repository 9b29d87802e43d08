"""Label images with a trained model.

    SM_CHANNEL_EVAL=data/eval SM_CHANNEL_MODEL=model SM_OUTPUT_DATA_DIR=output python code/inference.py

In: images, with info.csv beside `images/` or without; a model folder, its parent, or a model.tar.gz. Out: output.csv
with one row for every row of info.csv, in its order. The model says itself how images are prepared and what its
classes mean; an image that cannot be read keeps its row, without an answer.
"""

import base64
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from config import InferenceConfig, InferencePaths
from runtime.arguments import parse
from runtime.failure import guard, write_message
from runtime.process import limit_openmp_spinning

if __name__ == "__main__":  # a mistyped flag and --help are answered before the seconds that importing torch takes
    guard(lambda: parse("inference.py", sys.argv[1:], os.environ, InferencePaths, InferenceConfig))
    limit_openmp_spinning()

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data.decoding import stream
from data.image_store import apply_bad_image_policy
from data.images import Pixels, Preparation
from data.tables import Table, find_images, write_predictions
from labels import MASKED_FACES
from model_files import Description, load
from predictor import Predictor
from runtime.devices import configure_process, runtime_versions, select_device, select_dtype
from runtime.errors import ConfigError, DataError, ImageError, ModelError
from runtime.journal import Journal
from training.tracking import progress

__all__ = ["inference", "load_model", "main", "predict"]


def main() -> None:
    """The command: flags and SM_* variables in, output.csv out."""
    paths, config = parse("inference.py", sys.argv[1:], os.environ, InferencePaths, InferenceConfig)
    inference(paths.data_dir, paths.model_dir, paths.output_dir, config)


def inference(data_dir: str | Path, model_dir: str | Path, output_dir: str | Path, args: InferenceConfig) -> Path:
    """Label every image of `data_dir`; returns the path of output.csv. Raises a JobError and then leaves nothing.

    Each batch of answers is noted beside output.csv, so that a job that was killed goes on where it was when it is
    started again, and leaves the same bytes.
    """
    configure_process()
    table, files = find_images(Path(data_dir))
    device = select_device(args.device)
    model, description = load_described(Path(model_dir), args)
    predictor = Predictor(model, description.preparation, device, select_dtype(args.precision, device))

    started = time.monotonic()
    steps = -(-len(files) // args.batch_size)
    identity = fingerprint(files, model, description, args) | runtime_versions(device)
    with Journal(Path(output_dir) / "output.csv.journal", identity) as journal:
        predicted = [Predicted.from_record(record) for record in journal.records]
        if predicted:
            print(f"resumed after {len(predicted)} of {steps} batches", flush=True)
        rest = files[len(predicted) * args.batch_size :]
        batches = stream(rest, description.preparation, batch_size=args.batch_size, threads=args.threads)
        answers = predict(predictor, batches)
        for part in progress(answers, steps, "infer", len(predicted)):
            journal.append(part.to_record())
            predicted.append(part)

        try:
            bad = bad_images(predicted, args)
        except DataError:
            journal.remove()
            raise
        probabilities = np.concatenate([part.probabilities for part in predicted])  # (images, classes)
        output = write_predictions(Path(output_dir), answered(table, probabilities, bad, args), description.scheme)
        journal.remove()
    for index in sorted(bad):
        print(f"no answer: {bad[index]}", file=sys.stderr)
    speed = len(rest) / (time.monotonic() - started)
    done = f"pictures={len(files)}; unreadable={len(bad)}; images_per_second={speed:.1f}; output: {output}"
    print(done, flush=True)
    write_message(done)
    return output


def load_model(
    saved_model: str | Path, num_classes: int | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """Load the model of a folder, archive or old best.pth onto a device, in evaluation mode (the original's function).

    Raises ModelError, also if it has not `num_classes` classes.
    """
    model, description = load(Path(saved_model))
    if num_classes not in (None, description.scheme.num_classes):
        raise ModelError(
            f"the model has {description.scheme.num_classes} classes, expected {num_classes}: {saved_model}"
        )
    return model.to(device)


def load_described(model_dir: Path, args: InferenceConfig) -> tuple[nn.Module, Description]:
    """The model and what it says of itself; flags describe an old best.pth, and must not contradict a newer model."""
    legacy = Description(args.model or "BaseModel", "joint", MASKED_FACES, Preparation(args.resize or (128, 96)))
    model, description = load(model_dir, legacy)
    for flag, asked, found in (
        ("--model", args.model, description.architecture),
        ("--resize", args.resize, description.preparation.size),
    ):
        if asked is not None and asked != found:
            raise ConfigError(
                f"{flag} {asked} contradicts the model, which was trained with {found}; leave the flag out"
            )
    return model, description


@dataclass(frozen=True)
class Predicted:
    """A batch of answers: probabilities (batch, classes), and why an image has none, or None."""

    probabilities: NDArray[np.float32]
    errors: list[ImageError | None]

    def to_record(self) -> dict[str, Any]:
        """The very same, as JSON."""
        return {
            "probabilities": base64.b64encode(self.probabilities.astype("<f4").tobytes()).decode(),
            "errors": [error and [str(error), error.code] for error in self.errors],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        errors = [error and ImageError(*error) for error in record["errors"]]
        probabilities = np.frombuffer(base64.b64decode(record["probabilities"]), "<f4")
        return cls(probabilities.reshape(len(errors), -1), errors)


def fingerprint(
    files: Sequence[Path], model: nn.Module, description: Description, args: InferenceConfig
) -> dict[str, Any]:
    """What the answers depend on: the weights and what is said of them, each file by name, size and time, batches."""
    weights, images = hashlib.sha256(), hashlib.sha256()
    for tensor in model.state_dict().values():
        weights.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for path in files:
        found = path.stat() if path.exists() else None
        images.update(f"{path} {found and (found.st_size, found.st_mtime_ns)}\n".encode())
    return {
        "model": description.to_dict(),
        "weights": weights.hexdigest(),
        "pictures": images.hexdigest(),
        "batch_size": args.batch_size,
        "precision": args.precision,
    }


def bad_images(predicted: Sequence[Predicted], args: InferenceConfig) -> dict[int, ImageError]:
    """Which images have no answer, by row, and why; raises DataError where that is not to be passed over."""
    errors = [error for part in predicted for error in part.errors]
    bad = {index: error for index, error in enumerate(errors) if error}
    apply_bad_image_policy(bad, len(errors), args.on_bad_image, 1.0)
    if len(bad) == len(errors):
        raise DataError(f"none of the {len(errors)} images can be used: {bad[0]}")
    return bad


def predict(predictor: Predictor, batches: Iterable[tuple[Pixels, list[ImageError | None]]]) -> Iterator[Predicted]:
    """Yield the predictions of prepared batches (batch, height, width, 3)."""
    for pixels, errors in batches:
        yield Predicted(predictor.probabilities(pixels), errors)


def answered(
    table: Table, probabilities: NDArray[np.float32], bad: dict[int, ImageError], args: InferenceConfig
) -> Table:
    """The table with `ans`, and what was asked for besides; an image without an answer has empty cells."""

    def readable(values: Iterable[object]) -> list[object]:
        return [None if index in bad else value for index, value in enumerate(values)]

    columns = {"ans": readable(probabilities.argmax(1))}
    if args.status:
        columns["status"] = [bad[row].code if row in bad else "ok" for row in range(len(table.rows))]
    if args.save_probabilities:
        columns |= {f"probability_{label}": readable(column) for label, column in enumerate(probabilities.T)}
    return table.with_columns(columns)


if __name__ == "__main__":
    guard(main)
