"""The cache of pretrained weights on this machine, one folder for each model, filled by `make weights`. No torch.

    CACHE/resnet18/resnet18-f37072fd.pth             the file as it was published
    CACHE/resnet18/resnet18-f37072fd.pth.json        its notes: where it is from, licence, sha256, mean and std
    CACHE/timm/convnext_tiny.dinov3_lvd1689m/...     a name with a slash is a folder in a folder

A folder of a model is renamed into place when it is complete, so one that is there is complete, and can be handed on as
the `pretrained` channel as it is. Weights from elsewhere may have such notes beside them, too.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from runtime.errors import ModelError
from runtime.files import read_regular, visible
from runtime.json_files import parse_json
from runtime.version import NAME

CACHE_VARIABLE = "WEIGHTS_CACHE"
NOTES_ENDING = ".json"  # after the whole name of the file of weights
MAX_NOTES_BYTES = 1 << 20

Triple = tuple[float, float, float]

_MODEL = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")  # what may be a path below the cache


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation that images are normalised with, per channel, for pixels from 0 to 1."""

    mean: Triple
    std: Triple


@dataclass(frozen=True)
class Notes:
    """What is known of a file of weights: the model it is for, where it is from, its licence and its digest."""

    model: str
    source: str
    licence: str
    sha256: str
    statistics: Statistics

    def to_json(self) -> str:
        """Return the notes as a JSON object with mean and std as entries of their own."""
        record = {name: value for name, value in asdict(self).items() if name != "statistics"}
        return json.dumps(record | asdict(self.statistics), indent=2) + "\n"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read the notes; raise KeyError, TypeError or ValueError for what is missing or of another kind."""
        texts = {name: record[name] for name in ("model", "source", "licence", "sha256")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("expected text")
        return cls(**texts, statistics=Statistics(_triple(record["mean"]), _triple(record["std"], above=0)))


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the cache: WEIGHTS_CACHE, or a folder of ours in XDG_CACHE_HOME or ~/.cache."""
    if given := environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / NAME / "weights"


def folder_of(model: str, cache: Path) -> Path | None:
    """Return the folder for the weights of a model, which need not exist; None for a name that is no folder's."""
    return cache / model if _MODEL.fullmatch(model) else None


def find(model: str, cache: Path) -> Path | None:
    """Return the folder with the cached weights of a model, or None if they are not cached.

    It holds one file of weights with its notes, and can be the `pretrained` channel. `model` is the name that `--model`
    takes.
    """
    folder = folder_of(model, cache)
    return folder if folder and find_file(folder) else None


def find_file(folder: Path) -> Path | None:
    """Return the file of weights in a folder, which has notes beside it; None if there is none.

    Other files may be there, too, such as a README, or the hidden ones that macOS copies along.
    """
    return next((path for path in visible(folder) if path.is_file() and notes_path(path).is_file()), None)


def notes_path(weights: Path) -> Path:
    """Return where the notes of a file of weights are: beside it."""
    return weights.with_name(weights.name + NOTES_ENDING)


def read_notes(weights: Path) -> Notes | None:
    """Return the notes beside a file of weights, None if it has none; raise ModelError if they cannot be read."""
    path = notes_path(weights)
    try:
        return Notes.from_dict(dict(parse_json(read_regular(path, MAX_NOTES_BYTES))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the notes beside the weights cannot be read ({error!r}), expected what `make weights` writes; remove or "
            f"repair them: {path}"
        ) from None


def _triple(value: Any, above: float = -math.inf) -> Triple:
    """Return three finite numbers; raise ValueError or TypeError for anything else."""
    red, green, blue = (float(number) for number in value)
    if not all(math.isfinite(number) and number > above for number in (red, green, blue)):
        raise ValueError("expected three numbers, and a std above 0")
    return red, green, blue
