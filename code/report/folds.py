"""The scores of cross-validation: of each fold, their mean and spread, and of all images together. No torch."""

from typing import Any

import numpy as np

from data.out_of_fold import OutOfFold
from labels import LabelScheme
from metrics import count, log_line, log_name, scores


def summarize(found: OutOfFold, scheme: LabelScheme) -> dict[str, Any]:
    """Return the content of cv.json: images and scores by fold, mean and standard deviation over them, and `oof`.

    `oof` are the scores of all images, each predicted by the model of its fold. The standard deviation is that of a
    sample (one less than the folds in the denominator).
    """
    folds = []
    for fold in np.unique(found.folds).tolist():
        chosen = found.of_fold(fold)
        its = scores(count(found.labels[chosen], found.predicted[chosen], scheme), scheme)
        folds.append({"fold": fold, "images": int(chosen.sum()), **_named(its)})
    names = [name for name in folds[0] if name not in ("fold", "images")]
    values = {name: np.array([row[name] for row in folds]) for name in names}
    return {
        "folds": folds,
        "images": len(found.paths),
        "mean": {name: float(column.mean()) for name, column in values.items()},
        "std": {name: float(column.std(ddof=1)) for name, column in values.items()},
        "oof": _named(scores(count(found.labels, found.predicted, scheme), scheme)),
        "scheme": scheme.to_dict(),
    }


def _named(found: dict[str, float]) -> dict[str, float]:
    """Return scores under their names in the log and in model.json: accuracy, f1, mask_f1, ..."""
    return {log_name(name): value for name, value in found.items()}


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return the lines of the log: one for each fold, and one for all of them."""
    lines = [log_line(row) for row in summary["folds"]]
    overall: dict[str, float] = {"folds": len(summary["folds"]), "images": summary["images"]}
    for kind in ("mean", "std", "oof"):
        overall |= {f"{kind}_{name}": summary[kind][name] for name in ("accuracy", "f1")}
    return [*lines, log_line(overall)]
