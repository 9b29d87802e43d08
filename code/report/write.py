"""The report about a trained model: figures, metrics.json, and one HTML page for a person to read. No torch.

Files in the report folder; the page holds copies of the images and needs none of the others:

    report.html    everything on one self-contained page
    metrics.json   the same numbers for a machine
    curves.png  confusion.png  confusion_<task>.png  calibration.png  mistakes.png
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labels import LabelScheme
from metrics import per_class, task_matrix
from report import figures
from report import html as page
from report.figures import ARROW, grid_image
from report.results import Results
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
) -> Path:
    """Write the report about validation answers into `folder`; returns the path of its page.

    `history` has one row per epoch as in metrics.jsonl; `labels` (n,), `probabilities` (n, classes) and the file
    `names` (n) are those of the validation images; `pixels(index)` is one of them, (height, width, 3).
    `settings` are shown, and `settings["metric"]` says what the best epoch is best at, macro F1 if it is absent.
    """
    results = Results(scheme, history, labels, probabilities, str(settings.get("metric", "f1")))
    mistakes = [pixels(int(index)) for index in results.mistakes]
    charts = _charts(results)
    files = {f"{name}.png": data for name, data in charts.items()}
    if mistakes:
        files["mistakes.png"] = _mistakes_figure(results, mistakes)
    files["metrics.json"] = (json.dumps(results.to_dict(), indent=2, allow_nan=False) + "\n").encode()
    sections = _sections(results, charts, mistakes, names, settings)
    files["report.html"] = page.document(title, _subtitle(results), _numbers(results), sections).encode()
    for name, data in files.items():
        with replacing(folder / name, "wb") as file:
            file.write(data)
    return folder / "report.html"


def _charts(results: Results) -> dict[str, bytes]:
    """Every chart as a PNG file, by name."""
    scheme = results.scheme
    block = scheme.num_classes // len(scheme.tasks[0].classes) if scheme.tasks else 0
    made = {"curves": figures.curves(results.history, results.best_epoch)} if results.history else {}
    made["confusion"] = figures.confusion(results.matrix, scheme.classes, f"All {scheme.num_classes} classes", block)
    for task in scheme.tasks:
        part = task_matrix(results.matrix, scheme, task.name)
        made[f"confusion_{task.name}"] = figures.confusion(part, task.classes, task.name.capitalize())
    made["calibration"] = figures.reliability(results.calibration)
    return {name: figures.png(figure) for name, figure in made.items()}


def _mistakes_figure(results: Results, images: Sequence[NDArray[np.uint8]]) -> bytes:
    captions = ["\n".join([*lines, remark]) for lines, remark in _captions(results)]
    return figures.png(figures.image_grid(images, captions, columns=6), dots_per_inch=100)


def _captions(results: Results) -> list[tuple[list[str], str]]:
    """For every mistake: what was taken for what, and how sure the model was."""
    captions = []
    for index in results.mistakes:
        truth, answer = int(results.labels[index]), int(results.predictions[index])
        lines = figures.compare(results.scheme, truth, answer, only_wrong=True)
        captions.append((lines, f"{results.confidence[index]:.1%} sure"))
    return captions


def _subtitle(results: Results) -> str:
    wrong = int((results.predictions != results.labels).sum())
    network = "the best epoch" if results.history else "an epoch that was cut short"
    return f"{len(results.labels):,} validation images, {wrong:,} with a wrong answer, by the network of {network}"


def _numbers(results: Results) -> list[tuple[str, str]]:
    """The big numbers on top: macro F1, accuracy, macro F1 of every task, calibration, best epoch."""
    numbers = [("Macro F1", f"{results.scores['macro_f1']:.3f}"), ("Accuracy", f"{results.scores['accuracy']:.3f}")]
    numbers += [
        (f"{task.name.capitalize()} F1", f"{results.scores[f'{task.name}_macro_f1']:.3f}")
        for task in results.scheme.tasks
    ]
    numbers.append(("Calibration error", f"{results.calibration.expected_error:.3f}"))
    if results.history:
        numbers.append(("Best epoch", f"{results.best_epoch} of {len(results.history)}"))
    return numbers


def _sections(
    results: Results,
    charts: Mapping[str, bytes],
    mistakes: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    settings: Mapping[str, object],
) -> list[page.Section]:
    sections = []
    if "curves" in charts:
        sections.append(page.Section("Learning curves", page.chart(charts["curves"], "loss and scores by epoch")))
    sections.append(page.Section("Confusion", _confusion(results, charts)))
    sections.append(page.Section("Calibration", _calibration(charts)))
    if len(results.groups) > 1:
        sections.append(page.Section("Groups", _groups(results)))
    sections.append(page.Section("Classes", _classes(results)))
    sections.append(page.Section("Worst mistakes", _mistakes(results, mistakes, names)))
    rows = [(name, str(value)) for name, value in settings.items()]
    return [*sections, page.Section("Settings", page.settings_list(rows))]


def _confusion(results: Results, charts: Mapping[str, bytes]) -> str:
    parts = [page.chart(charts["confusion"], "confusion matrix of all classes")]
    by_task = [task.name for task in results.scheme.tasks]
    if by_task:
        parts.append(
            page.side_by_side([page.chart(charts[f"confusion_{name}"], f"confusion of {name}") for name in by_task])
        )
    if results.confusions:
        parts.append(page.paragraph("The most frequent confusions; share is of the images of the true class."))
        parts.append(page.table(("True", "Predicted", "Images", "Share"), results.confusions))
    return "\n".join(parts)


def _calibration(charts: Mapping[str, bytes]) -> str:
    text = (
        "How far a confidence can be taken at its word: of the answers given with 80% confidence, 80% should be right. "
        "Where a bar stays below the dashed line the network is overconfident. The expected calibration error is the "
        "mean gap between the two, weighted by images."
    )
    return page.side_by_side([page.chart(charts["calibration"], "accuracy by confidence"), page.paragraph(text)])


def _groups(results: Results) -> str:
    ranked = sorted(results.groups, key=lambda group: float(group["accuracy"]))
    worst, best = (", ".join(group["group"].values()) for group in (ranked[0], ranked[-1]))
    text = (
        f"Served worst: {worst} (accuracy {ranked[0]['accuracy']:.3f}); served best: {best} "
        f"({ranked[-1]['accuracy']:.3f}). A group of few images says little."
    )
    tasks = results.scheme.tasks
    header = [task.name.capitalize() for task in tasks[1:]] + ["Images", "Accuracy", "Macro F1"]
    rows: list[list[page.Cell]] = [
        [*group["group"].values(), group["pictures"], group["accuracy"], group["f1"], *group["task_accuracy"].values()]
        for group in ranked
    ]
    return page.paragraph(text) + page.table([*header, *(f"{task.name.capitalize()} accuracy" for task in tasks)], rows)


def _classes(results: Results) -> str:
    scored = per_class(results.matrix)
    rows: list[list[page.Cell]] = [
        [str(label), name, int(scored.support[label]), *(float(column[label]) for column in scored[:3])]
        for label, name in enumerate(results.scheme.classes)
    ]
    table = page.table(("", "Class", "Images", "Precision", "Recall", "F1"), rows)
    return table if len(rows) <= 30 else page.folded(f"all {len(rows)} classes", table)


def _mistakes(results: Results, images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> str:
    if not images:
        return page.paragraph("No mistakes: every validation image has the right answer.")
    text = "The wrong answers the network was most sure of, from truth to answer. Some may be mistakes of the labels."
    shown = [
        (_jpeg(image), [line.replace(f" {ARROW}", f"\n{ARROW}") for line in lines], (remark, names[index]))
        for image, (lines, remark), index in zip(images, _captions(results), results.mistakes, strict=True)
    ]
    return page.paragraph(text) + page.gallery(shown)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
