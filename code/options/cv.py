"""Every option of cross-validation that is not one of training, as config.py has those. No torch, no pandas."""

from dataclasses import dataclass

from runtime.arguments import option

FOLDS = 5  # unless another number is given, or found


@dataclass(frozen=True, kw_only=True)
class CvConfig:
    """Options of cross-validation."""

    folds: int | None = option(
        None,
        f"parts of the people or images, each predicted by a model of the others; default: {FOLDS}, with --collect "
        "those that are there",
        minimum=2,
        maximum=100,
    )
    collect: bool = option(
        False,
        "no training: only join the folds that are in the output folder already; the report is written again if the "
        "images are there",
    )
