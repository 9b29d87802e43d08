"""Every option of cross-validation that is not one of training, as config.py has those. No torch, no pandas."""

from dataclasses import dataclass

from runtime.arguments import option


@dataclass(frozen=True, kw_only=True)
class CvConfig:
    """Options of cross-validation."""

    folds: int = option(
        5, "parts of the people or images, each predicted by a model of the others", minimum=2, maximum=100
    )
    collect: bool = option(False, "no training: only join the folds that are in the output folder already")
