"""The report about a trained model: figures, metrics.json, and one HTML page. No torch.

Files in the report folder; the page holds copies of the images and needs none of the others:

    report.html    everything on one self-contained page
    metrics.json   the same numbers for scripts
    curves.png  confusion.png  confusion_<task>.png  calibration.png  mistakes.png  heat.png
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from calibration import Fitted, UnsureThresholds
from labels import LabelScheme
from metrics import task_matrix
from report import figures
from report.figures import grid_image
from report.heat import Explain, Heat, blend, examples, find_heat, overlay, place_of
from report.html import ShownImage, render
from report.results import Results, best_by
from runtime.files import replacing

__all__ = ["grid_image", "write_report"]

_IMAGE_SIDE = 192  # pixels of the longer side, on the page


def write_report(
    folder: Path,
    *,
    title: str,
    scheme: LabelScheme,
    history: Sequence[Mapping[str, float]],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    names: Sequence[str],
    pixels: Callable[[int], NDArray[np.uint8]],
    settings: Mapping[str, object],
    explain: Explain | None = None,
    calibration: Fitted | None = None,
    thresholds: UnsureThresholds | None = None,
) -> Path:
    """Write the report about the predictions for the validation images into `folder`; return the path of its page.

    `history` has one row per epoch as in metrics.jsonl; `labels` (n,), `probabilities` (n, classes) and the file
    `names` (n) are those of the validation images; `pixels(index)` is one of them, (height, width, 3).
    `settings` are listed on the page; their `select` and `metric` tell the epoch of the model, that of the best F1 by
    default.
    With `explain`, there are heat maps of the worst mistakes and of two images of each class. With `calibration`, the
    probabilities are calibrated with its temperature.
    """
    results = Results(scheme, history, labels, probabilities, best_by(settings), calibration, thresholds)
    wrong, right = results.mistakes.tolist(), examples(results) if explain else []
    images = {index: pixels(index) for index in [*wrong, *right]}
    heat = find_heat(explain, images, results.predictions) if explain else None
    mistakes, shown = ([_shown(results, index, images, names, heat) for index in part] for part in (wrong, right))
    charts = _charts(results)
    page = render(title, results, charts, mistakes, settings, heat, shown)
    grids = {"mistakes": _grid([images[index] for index in wrong], mistakes)} if mistakes else {}
    if heat and heat.maps:
        grids["heat"] = _grid([blend(images[index], heat.maps[index]) for index in images], [*mistakes, *shown])
    return write_files(folder, charts | grids, results.to_dict(), page)


def write_files(folder: Path, images: Mapping[str, bytes], metrics: Mapping[str, Any], page: str) -> Path:
    """Write the files of a report, the page last: `images` are PNG files by name. Return the path of the page."""
    files = {f"{name}.png": data for name, data in images.items()}
    files["metrics.json"] = (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode()
    files["report.html"] = page.encode()
    for name, data in files.items():
        with replacing(folder / name, "wb") as file:
            file.write(data)
    return folder / "report.html"


def _charts(results: Results) -> dict[str, bytes]:
    """Return every chart as a PNG file, by name."""
    scheme = results.scheme
    made = {"curves": figures.curves(results.history, results.best_epoch)} if results.history else {}
    made["confusion"] = _confusion_of_classes(results)
    for task in scheme.tasks:
        part = task_matrix(results.matrix, scheme, task.name)
        made[f"confusion_{task.name}"] = figures.confusion(part, task.classes, task.name.capitalize())
    made["calibration"] = figures.reliability(results.calibration, results.uncalibrated)
    return {name: figures.png(figure) for name, figure in made.items()}


def _confusion_of_classes(results: Results) -> Figure:
    """Draw the confusion matrix of all classes, or of the most confused ones if there are many."""
    scheme, drawn = results.scheme, results.drawn_classes
    names = [scheme.classes[label] for label in drawn]
    if len(drawn) < scheme.num_classes:
        title = f"The {len(drawn)} most confused of {scheme.num_classes:,} classes"
        support, numbers = results.drawn_support, drawn.tolist()
        return figures.confusion(results.drawn_matrix, names, title, support=support, numbers=numbers)
    block = scheme.num_classes // len(scheme.tasks[0].classes) if scheme.tasks else 0
    return figures.confusion(results.drawn_matrix, names, f"All {scheme.num_classes} classes", block)


def _shown(
    results: Results,
    index: int,
    images: Mapping[int, NDArray[np.uint8]],
    names: Sequence[str],
    heat: Heat | None,
) -> ShownImage:
    """Return a prediction as the page shows it."""
    label, prediction = int(results.labels[index]), int(results.predictions[index])
    lines = figures.compare(results.scheme, label, prediction, only_wrong=label != prediction)
    image, warmth = small(images[index]), heat.maps.get(index) if heat else None
    drawn = (b"", "") if warmth is None else (overlay(warmth, image.size), place_of(warmth))
    return ShownImage(jpeg(image), lines, float(results.confidence[index]), names[index], *drawn)


def _grid(images: Sequence[NDArray[np.uint8]], shown: Sequence[ShownImage]) -> bytes:
    """Return images with captions as a PNG file."""
    captions = ["\n".join([*image.lines, f"confidence {image.confidence:.1%}"]) for image in shown]
    return figures.png(figures.image_grid(images, captions, columns=6), dots_per_inch=100)


def small(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return an image (height, width, 3) scaled down for the page."""
    image = Image.fromarray(pixels)
    image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    return image


def jpeg(image: Image.Image) -> bytes:
    """Return an image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
