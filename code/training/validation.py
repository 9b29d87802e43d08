"""A published model at work on labelled images, to find labels that it contradicts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.decode_board import DecodeLimits
from data.decoding import stream
from labelling.outputs import outputs_of
from labels import LabelScheme
from model_files import load
from predictor import Predictor
from runtime.devices import configure_process, select_device
from runtime.errors import DataError

_BATCH = 128


def predict_images(
    model_dir: Path,
    scheme: LabelScheme,
    paths: Sequence[Path],
    *,
    device: str,
    processes: int = 0,
    limits: DecodeLimits | None = None,
) -> NDArray[np.float32]:
    """Return the probabilities (images, classes) that the model in a folder gives to the images at `paths`.

    Raises ModelError for a folder without a model, and DataError if the model has other classes than `scheme`.
    """
    configure_process()
    model, description = load(model_dir)
    if description.scheme.classes != scheme.classes:
        raise DataError(
            f"the model was trained with other classes than those of the images ({len(description.scheme.classes)} "
            f"instead of {len(scheme.classes)}, or other names); pass the model of these images: {model_dir}"
        )
    predictor = Predictor(
        *(model, description.preparation, select_device(device), None),
        temperature=description.temperature,
        activation=outputs_of(description.scheme).activation,
    )
    batches = stream(paths, description.preparation, batch_size=_BATCH, processes=processes, limits=limits)
    return np.concatenate([predictor.probabilities(pixels) for pixels, _ in batches])
