"""Say how good labels are: join gt.csv and output.csv on ImageID, and score the answers.

    SM_GROUND_TRUTH_DIR=data/gt SM_OUTPUT_DATA_DIR=output python code/evaluation.py

Prints the original's JSON and one `key=value;` line, and writes evaluation.json beside output.csv: the metrics of
SageMaker's model quality report for several classes, macro F1, and accuracy and macro F1 of every task.

A row of output.csv with an empty `ans` (inference could not read the image) is unanswered: wrong in accuracy and
recall, and an answer of no class, so it costs no class any precision. The confusion matrix then gains a column for it.
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

from config import EvaluationConfig, EvaluationPaths
from data.predictions import Answers, read_answers
from labels import LabelScheme
from metrics import Floats, Matrix, accuracy, f_score, log_line, macro_f1, per_class, stacked_scores
from runtime.arguments import parse
from runtime.failure import run, write_message
from runtime.files import replacing

REPORT = "evaluation.json"
STACK_ENTRIES = 4_000_000  # of confusion matrices scored at once: 32 MB, however many classes and resamples


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    paths, config = parse("evaluation.py", argv, environ, EvaluationPaths, EvaluationConfig)
    answers = read_answers(paths.gt_dir, paths.pred_dir or paths.output_dir, config.persons)
    report = quality_report(answers, config.bootstrap, config.seed)
    with replacing(paths.output_dir / REPORT) as file:
        json.dump(report, file, indent=2, allow_nan=False)
    print(leaderboard(answers, legacy_format=config.legacy_format))
    print(summary(answers))
    write_message(summary(answers))


def evaluation(gt_dir: str | Path, pred_dir: str | Path, *, legacy_format: bool = False) -> str:
    """The original's JSON for {gt_dir}/gt.csv and {pred_dir}/output.csv; raises DataError where they do not fit."""
    return leaderboard(read_answers(Path(gt_dir), Path(pred_dir)), legacy_format=legacy_format)


def leaderboard(answers: Answers, *, legacy_format: bool = False) -> str:
    """The original's JSON: {"accuracy": {"value", "rank", "decs"}, "f1": {...}}, values as percentages.

    `decs` and the flags are the original's. So is `legacy_format`: macro F1 with a percent sign, yet not times 100.
    """
    matrix = answers.matrix()
    f1 = macro_f1(matrix) * (1 if legacy_format else 100)
    return json.dumps(
        {
            "accuracy": {"value": f"{accuracy(matrix) * 100:.2f}%", "rank": True, "decs": True},
            "f1": {"value": f"{f1:.2f}%", "rank": False, "decs": True},
        }
    )


def summary(answers: Answers) -> str:
    """`macro_f1=0.2713; accuracy=0.2980; mask_accuracy=0.9184; ...`, and how many are unanswered if any are."""
    values = statistics(answers.matrix(), answers.scheme)
    names = ["macro_f1", "accuracy", *(name for name in values if name.endswith(("_accuracy", "_macro_f1")))]
    unanswered = {"unanswered": answers.unanswered} if answers.unanswered else {}
    return log_line({name: float(values[name]) for name in names} | unanswered)


def quality_report(answers: Answers, resamples: int, seed: int) -> dict[str, Any]:
    """evaluation.json: SageMaker's multiclass_classification_metrics, and under `details` what they rest on.

    Standard deviations come from a bootstrap over persons where they are known, else over images; without one they
    are the text "NaN", as SageMaker writes it.
    """
    matrix = answers.matrix()
    spread = standard_deviations(answers, resamples, seed)
    metrics = {
        name: {"value": float(value), "standard_deviation": spread.get(name, "NaN")}
        for name, value in statistics(matrix, answers.scheme).items()
    }
    details = {
        "pictures": len(answers.truths),
        "unanswered": answers.unanswered,
        "persons": None if answers.persons is None else int(answers.persons.max()) + 1,
        "resampled": None if not spread else "pictures" if answers.persons is None else "persons",
        "resamples": resamples if spread else 0,
        "seed": seed,
        "scheme": answers.scheme.name,
        "classes": _class_table(matrix, answers.scheme),
        "versions": {"python": platform.python_version(), "numpy": importlib.metadata.version("numpy")},
    }
    return {"multiclass_classification_metrics": {"confusion_matrix": _nested(matrix), **metrics}, "details": details}


def _nested(matrix: Matrix) -> dict[str, dict[str, int]]:
    """{"0": {"0": 41, "1": 2}, ...}: truth, then answer."""
    classes, columns = matrix.shape
    names = [str(number) for number in range(classes)] + ["unanswered"] * (columns - classes)
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, matrix.tolist(), strict=False)}


def _class_table(matrix: Matrix, scheme: LabelScheme) -> list[dict[str, Any]]:
    columns = zip(scheme.classes, *(column.tolist() for column in per_class(matrix)), strict=True)
    keys = ("name", "precision", "recall", "f1", "support")
    return [{"class": number, **dict(zip(keys, row, strict=True))} for number, row in enumerate(columns)]


def statistics(matrix: Matrix, scheme: LabelScheme) -> dict[str, Floats]:
    """Every metric of evaluation.json from confusion matrices (..., classes, columns): name -> (...).

    Weighted metrics are means over the classes, by support. The best constant classifier answers every image with
    the commonest class: what a model must beat.
    """
    constant = _overall(_answered_with_commonest(matrix))
    result = _overall(matrix) | {f"{name}_best_constant_classifier": value for name, value in constant.items()}
    return result | stacked_scores(matrix, scheme)


def _overall(matrix: Matrix) -> dict[str, Floats]:
    """Accuracy and the weighted metrics, under SageMaker's names."""
    precision, recall, f1, support = per_class(matrix)
    columns = {"recall": recall, "precision": precision, "f0_5": f_score(matrix, 0.5), "f1": f1}
    columns["f2"] = f_score(matrix, 2.0)
    weights = support / support.sum(-1, keepdims=True)
    weighted = {f"weighted_{name}": (column * weights).sum(-1) for name, column in columns.items()}
    return {"accuracy": accuracy(matrix), **weighted}


def _answered_with_commonest(matrix: Matrix) -> Matrix:
    """The same truths, all answered with the class that most of them are."""
    support = matrix.sum(-1)  # (..., classes)
    answer = np.eye(matrix.shape[-1])[support.argmax(-1)]  # (..., columns)
    constant: Matrix = support[..., :, None] * answer[..., None, :]
    return constant


def standard_deviations(answers: Answers, resamples: int, seed: int) -> dict[str, float]:
    """Of every metric, by the bootstrap (Efron and Tibshirani, 1993, chapter 6): name -> standard deviation.

    Persons are drawn with replacement and bring all their images, because these are alike; images are drawn where
    persons are not known. Empty where fewer than 2 of them, or of resamples, leave nothing to compare.
    """
    unit = np.arange(len(answers.truths)) if answers.persons is None else answers.persons  # (images,)
    units = int(unit.max()) + 1
    if min(resamples, units) < 2:
        return {}
    generator = np.random.default_rng(seed)
    rows, columns = answers.shape
    most = max(1, STACK_ENTRIES // (rows * columns))
    parts = []
    for start in range(0, resamples, most):
        stack = np.empty((min(most, resamples - start), rows, columns))
        for matrix in stack:
            drawn = np.bincount(generator.integers(units, size=units), minlength=units)  # how often each unit
            matrix[:] = answers.matrix(drawn[unit])
        parts.append(statistics(stack, answers.scheme))
    return {name: float(np.concatenate([part[name] for part in parts]).std(ddof=1)) for name in parts[0]}


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:], os.environ))
