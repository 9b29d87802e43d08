"""Score predictions: join gt.csv and output.csv on ImageID, and compare them.

    SM_GROUND_TRUTH_DIR=data/gt SM_OUTPUT_DATA_DIR=output python code/evaluation.py

Prints the original's JSON and one `key=value;` line, and writes evaluation.json beside output.csv: the metrics of
SageMaker's model quality report for several classes, macro F1, and accuracy and macro F1 of every task.

An empty `ans` in output.csv (inference could not read the image) is no prediction: wrong in accuracy and recall, but
of no class, so it lowers no class's precision. The confusion matrix then has one more column, `unanswered`.

With the columns that `--save-probabilities` and `--status` of inference add to output.csv, evaluation.json also has the
expected calibration error, and the share of images with a sure prediction (`coverage`) and how many of those are right
(`sure_precision`).
"""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.predictions import Labelled, LabelledSets, read_predictions
from labels import LabelScheme

# Not those of sklearn.metrics: importing that takes 1 s, all of evaluation 0.3 s. The tests compare the two.
from metrics import (
    Counted,
    Counts,
    Floats,
    accuracy,
    calibration_of,
    counts_of,
    f_score,
    log_line,
    nested_matrix,
    per_class,
    stack,
    stacked_scores,
)
from options.evaluation import EvaluationConfig, EvaluationPaths
from runtime.arguments import parse
from runtime.failure import run, write_message
from runtime.files import replacing
from set_metrics import SetCounts, set_statistics

REPORT = "evaluation.json"
STACK_ENTRIES = 4_000_000  # numbers that are scored at once, of confusion matrices or counts: 32 MB


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: read both tables, write evaluation.json, print the scores."""
    paths, config = parse("evaluation.py", argv, environ, EvaluationPaths, EvaluationConfig)
    variables = "SM_GROUND_TRUTH_DIR", "SM_PREDICTION_DIR" if paths.pred_dir else "SM_OUTPUT_DATA_DIR"
    labelled = read_predictions(paths.gt_dir, paths.pred_dir or paths.output_dir, config.persons, variables)
    report = quality_report(labelled, config.bootstrap, config.seed)
    with replacing(paths.output_dir / REPORT) as file:
        json.dump(report, file, indent=2, allow_nan=False)
    print(leaderboard(labelled, legacy_format=config.legacy_format))
    print(summary(labelled))
    write_message(summary(labelled))


def evaluation(gt_dir: str | Path, pred_dir: str | Path, *, legacy_format: bool = False) -> str:
    """Return the original's JSON for {gt_dir}/gt.csv and {pred_dir}/output.csv (the original's function).

    Raises DataError if a table is damaged or the two name different images.
    """
    return leaderboard(read_predictions(Path(gt_dir), Path(pred_dir)), legacy_format=legacy_format)


def leaderboard(labelled: Labelled, *, legacy_format: bool = False) -> str:
    """Return the original's JSON: {"accuracy": {"value", "rank", "decs"}, "f1": {...}}, values as percentages.

    `decs` and the flags are the original's. So is `legacy_format`: macro F1 with a percent sign, but not times 100.
    """
    values = statistics(labelled.count(), labelled.scheme)
    f1 = values["macro_f1"] * (1 if legacy_format else 100)
    return json.dumps(
        {
            "accuracy": {"value": f"{values['accuracy'] * 100:.2f}%", "rank": True, "decs": True},
            "f1": {"value": f"{f1:.2f}%", "rank": False, "decs": True},
        }
    )


def summary(labelled: Labelled) -> str:
    """Return `macro_f1=0.2713; accuracy=0.2980; mask_accuracy=0.9184; ...`.

    It ends with the number of images without a prediction, if there are any: `unanswered=3;`.
    """
    values = statistics(labelled.count(), labelled.scheme)
    further = [name for name in values if name == "micro_f1" or name.endswith(("_accuracy", "_macro_f1"))]
    names = ["macro_f1", "accuracy", *further]
    unanswered = {"unanswered": labelled.without_prediction} if labelled.without_prediction else {}
    return log_line({name: float(values[name]) for name in names} | confidence_scores(labelled) | unanswered)


def confidence_scores(labelled: Labelled) -> dict[str, float]:
    """Return the scores of confidence that the columns of output.csv allow; images without a prediction are not sure.

    `sure_precision` is missing if no prediction is sure. Several labels have none of these scores.
    """
    found: dict[str, float] = {}
    if isinstance(labelled, LabelledSets):
        return found
    is_predicted = labelled.predictions < labelled.scheme.num_classes
    hits = labelled.predictions == labelled.ground_truth
    if labelled.probabilities is not None and is_predicted.any():
        rows = np.flatnonzero(is_predicted)
        confidence = labelled.probabilities[rows, labelled.predictions[rows]]
        found["expected_calibration_error"] = calibration_of(confidence, hits[rows]).expected_error
    if labelled.unsure is not None:
        is_sure = is_predicted & ~labelled.unsure
        found["coverage"] = float(is_sure.mean())
        if is_sure.any():
            found["sure_precision"] = float(hits[is_sure].mean())
    return found


def quality_report(labelled: Labelled, resamples: int, seed: int) -> dict[str, Any]:
    """Return evaluation.json: SageMaker's multiclass_classification_metrics, and under `details` their basis.

    SageMaker has no metrics of several labels; they are in the same form, as multilabel_classification_metrics.

    Standard deviations come from a bootstrap over persons if they are known, else over images; without a bootstrap
    they are the text "NaN", as SageMaker writes it.
    """
    counted = labelled.count()
    deviations = standard_deviations(labelled, resamples, seed)
    metrics = {
        name: {"value": float(value), "standard_deviation": deviations.get(name, "NaN")}
        for name, value in statistics(counted, labelled.scheme).items()
    }
    details = {
        "pictures": len(labelled.ground_truth),
        "unanswered": labelled.without_prediction,
        "persons": None if labelled.persons is None else int(labelled.persons.max()) + 1,
        "resampled": None if not deviations else "pictures" if labelled.persons is None else "persons",
        "resamples": resamples if deviations else 0,
        "seed": seed,
        "scheme": labelled.scheme.name,
        "classes": _class_table(counted, labelled.scheme),
        **confidence_scores(labelled),
        "versions": {"python": platform.python_version(), "numpy": importlib.metadata.version("numpy")},
    }
    if isinstance(labelled, LabelledSets):
        return {"multilabel_classification_metrics": metrics, "details": details}
    confusion = nested_matrix(labelled.ground_truth, labelled.predictions, labelled.scheme.num_classes)
    return {"multiclass_classification_metrics": {"confusion_matrix": confusion, **metrics}, "details": details}


def _class_table(counted: Counted | SetCounts, scheme: LabelScheme) -> list[dict[str, Any]]:
    """Return one row for each class: number, name, precision, recall, F1, support."""
    counts = counted.classes if isinstance(counted, SetCounts) else counted
    columns = zip(scheme.classes, *(column.tolist() for column in per_class(counts)), strict=True)
    keys = ("name", "precision", "recall", "f1", "support")
    return [{"class": number, **dict(zip(keys, row, strict=True))} for number, row in enumerate(columns)]


def statistics(counted: Counted | SetCounts, scheme: LabelScheme) -> dict[str, Floats]:
    """Return every metric of evaluation.json from confusion matrices (..., classes, columns) or counts: name -> (...).

    Weighted metrics are means over the classes, by support. The best constant classifier predicts the most frequent
    class for every image: the baseline for a model.
    """
    if isinstance(counted, SetCounts):
        return set_statistics(counted)
    counts = counts_of(counted)
    constant = _overall(_constant_classifier(counts))
    baseline = {f"{name}_best_constant_classifier": value for name, value in constant.items()}
    return _overall(counts) | baseline | stacked_scores(counted, scheme)


def _overall(counts: Counts) -> dict[str, Floats]:
    """Return accuracy and the weighted metrics, under SageMaker's names."""
    precision, recall, f1, support = per_class(counts)
    columns = {"recall": recall, "precision": precision, "f0_5": f_score(counts, 0.5), "f1": f1}
    columns["f2"] = f_score(counts, 2.0)
    weights = support / support.sum(-1, keepdims=True)
    weighted = {f"weighted_{name}": (column * weights).sum(-1) for name, column in columns.items()}
    return {"accuracy": accuracy(counts), **weighted}


def _constant_classifier(counts: Counts) -> Counts:
    """Return the counts for the same ground truth, with the most frequent class predicted for every image."""
    support = counts.support  # (..., classes)
    is_predicted = np.arange(support.shape[-1]) == support.argmax(-1)[..., None]  # (..., classes)
    return Counts(support * is_predicted, support, support.sum(-1, keepdims=True) * is_predicted)


def standard_deviations(labelled: Labelled, resamples: int, seed: int) -> dict[str, float]:
    """Return the standard deviation of every metric by the bootstrap (Efron and Tibshirani, 1993, chapter 6).

    Persons are drawn with replacement, each with all of their images, because these are alike; images are drawn if
    persons are not known. Empty with fewer than 2 of them or of resamples; with one, that is a warning.
    """
    unit = np.arange(len(labelled.ground_truth)) if labelled.persons is None else labelled.persons  # (images,)
    units = int(unit.max()) + 1
    if min(resamples, units) < 2:
        if resamples:
            only = "resample" if resamples == 1 else "image" if labelled.persons is None else "person"
            print(f"warning: the metrics have no standard deviations, as there is one {only}", file=sys.stderr)
        return {}
    generator = np.random.default_rng(seed)
    entries = sum(map(np.size, labelled.count()))  # of the rows of a matrix, or of the three counts
    most = max(1, STACK_ENTRIES // entries)
    parts = []
    for start in range(0, resamples, most):
        counted = []
        for _ in range(min(most, resamples - start)):
            times_drawn = np.bincount(generator.integers(units, size=units), minlength=units)  # (units,)
            counted.append(labelled.count(times_drawn[unit]))
        parts.append(statistics(stack(counted), labelled.scheme))
    return {name: float(np.concatenate([part[name] for part in parts]).std(ddof=1)) for name in parts[0]}


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:], os.environ))
