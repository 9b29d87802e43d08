"""Data sets of a training job that are on this machine: read as training reads them, before anything is uploaded."""

import sys
from collections.abc import Mapping
from pathlib import Path

from config import TrainConfig
from data.readers import AUTO, LAYOUTS, Layout, find_dataset, layout_apart
from data.samples import Samples
from data.several_labels import apply_task, match_task
from data.summary import describe_classes, describe_found, find_warnings
from data.validation import add_validation, check_leaks
from runtime.conversion import show


def check_local_data(
    data: str, validation_data: str, hyperparameters: Mapping[str, str], listed: Samples | None = None
) -> None:
    """Read the data sets that are local, say what was found, and raise DataError for what training would reject.

    `listed` are images to train on that are in S3, of which a manifest tells the labels; then `data` is empty.
    """
    dataset = hyperparameters.get("dataset", TrainConfig.dataset)
    folders = {"--data": data, "--validation-data": validation_data}
    found = {}
    task = hyperparameters.get("task", TrainConfig.task)
    if listed:
        found["--data"] = apply_task(listed, task)
        _describe(found["--data"], layout_apart(dataset), dataset)
    for flag, text in folders.items():
        if text and "://" not in text:
            layout = LAYOUTS[find_dataset(dataset, Path(text), flag)]
            samples = layout.read(Path(text), flag)
            found[flag] = match_task(samples, found["--data"]) if "--data" in found else apply_task(samples, task)
            _describe(found[flag], layout, dataset)
    allow_leaks = hyperparameters.get("allow_leaks") == show(True)
    if len(found) == len(folders):
        found["--data"] = add_validation(found["--data"], found["--validation-data"])
    if "--data" in found and not allow_leaks:
        check_leaks(found["--data"])


def _describe(samples: Samples, layout: Layout, dataset: str) -> None:
    lines = [describe_found(samples, layout.title)] if dataset == AUTO else describe_classes(samples)
    for line in (*lines, *(f"warning: {sentence}" for sentence in find_warnings(samples))):
        print(line, file=sys.stderr)
