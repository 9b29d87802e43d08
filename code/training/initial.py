"""What a run starts from: its initial weights, and the mean and std that images are normalised with.

Both are fixed when a run starts. `--statistics auto` is the mean and std of the weights, or else those of the original
pipeline; when the run is resumed, it is what the checkpoint has, and weights are not needed any more.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from config import TrainConfig
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from initial_weights import IMAGENET, InitialWeights
from recipes import warning_without_weights
from runtime.errors import CheckpointError
from training.fingerprint import INITIAL_WEIGHTS, STATISTICS
from training.start import Kept
from training.workers import Workers
from weights_cache import Statistics

ORIGINAL = Statistics(ORIGINAL_MEAN, ORIGINAL_STD)
_BY_NAME = {"original": ORIGINAL, "imagenet": IMAGENET}


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    weights: InitialWeights | None  # of the first worker; the others get what it has
    sha256: str | None  # of the weights; None for random ones
    statistics: Statistics  # to normalise with, unless they are computed from the data
    fingerprint: Mapping[str, Any]

    def require_weights(self, *, is_resumed: bool) -> None:
        """Raise CheckpointError if a run would start from scratch without the weights that it started from before."""
        if self.sha256 and not self.weights and not is_resumed:
            raise CheckpointError(
                "no checkpoint can be used, and the weights that the run started from are not given; give them again "
                "as the `pretrained` channel or with --pretrained FILE, or pass --resume never to start from scratch"
            )


def choose_start(
    args: TrainConfig,
    workers: Workers,
    pretrained_dir: str | Path | None = None,
    kept: Kept | None = None,
) -> tuple[TrainConfig, Start]:
    """Read the initial weights, and settle `--statistics auto`; returns the options with what it means.

    It stays `auto` for a mean and std that have no name. The log says which they are. Raises ModelError for weights
    that cannot be used, ConfigError for blocks that are frozen for the whole run and have none.
    """
    weights, chosen = None, None
    if workers.is_first:
        weights = InitialWeights.read(args.model, args.pretrained, Path(pretrained_dir) if pretrained_dir else None)
        chosen = _choose(args, weights, kept.fingerprint if kept else {})
    name, mean, std, sha256 = workers.tell(chosen)
    if sha256 is None:
        warning = warning_without_weights(args.recipe, args.freeze, args.freeze_epochs, args.epochs)
        if warning and workers.is_first:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    statistics = Statistics(tuple(mean), tuple(std))
    fingerprint: dict[str, Any] = {INITIAL_WEIGHTS: sha256}
    if name == "auto":
        fingerprint[STATISTICS] = asdict(statistics)
    if weights and args.statistics == "auto" and workers.is_first:
        print(f"statistics: mean {_shown(statistics.mean)}; std {_shown(statistics.std)}", flush=True)
    return replace(args, statistics=name), Start(weights, sha256, statistics, fingerprint)


def _choose(
    args: TrainConfig, weights: InitialWeights | None, kept: Mapping[str, Any]
) -> tuple[str, tuple[float, ...], tuple[float, ...], str | None]:
    """Return the name of the statistics, mean, std, and the sha256 of the weights; `kept` is the fingerprint."""
    sha256 = weights.sha256 if weights else None
    if kept and not weights and args.pretrained == "auto":
        sha256 = kept.get(INITIAL_WEIGHTS)
    name, found = args.statistics, _BY_NAME.get(args.statistics, ORIGINAL)
    if name == "auto" and kept:
        name, record = kept.get("statistics", "original"), kept.get(STATISTICS)
        found = Statistics(record["mean"], record["std"]) if record else _BY_NAME.get(name, ORIGINAL)
    elif name == "auto":
        found = weights.statistics if weights and weights.statistics else ORIGINAL
        name = next((known for known, values in _BY_NAME.items() if values == found), "auto")
    return name, found.mean, found.std, sha256


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
