"""The content of `model.json`: what a network is, which images it takes, and what its outputs mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import nn

from config import TrainConfig
from data.fitting import FITS
from data.images import Preparation
from labels import LabelScheme
from model import create_model
from runtime.arguments import upgrade
from runtime.errors import JobError, ModelError
from runtime.version import version

DESCRIPTION = "model.json"
FORMAT = 2  # count up when the keys of model.json change; every earlier format stays readable
MAX_SIDE = 4096  # pixels; a larger model size would exhaust the memory


@dataclass(frozen=True)
class Description:
    """The content of `model.json`, except versions and checksum."""

    architecture: str
    head: str
    scheme: LabelScheme
    preparation: Preparation
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Create the network, with random weights."""
        return create_model(self.architecture, self.scheme, head=self.head, size=self.preparation.size)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON."""
        return {
            "architecture": self.architecture,
            "head": self.head,
            "scheme": self.scheme.to_dict(),
            "preparation": self.preparation.to_dict(),
            "metrics": dict(self.metrics),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], where: str) -> Self:
        """Read the description in a model.json of any format; raises ModelError for a newer one or a missing entry."""
        try:
            if (found := record["format"]) not in range(1, FORMAT + 1):
                raise ModelError(
                    f"model.json has format {found!r}, this version ({version()}) reads formats up to {FORMAT}; "
                    f"use the version that trained the model, or train again: {where}"
                )
            scheme, preparation = LabelScheme.from_dict(record["scheme"]), Preparation.from_dict(record["preparation"])
            settings = record["settings"]
            if found == 1 and settings:  # of 0.1.0
                settings = upgrade(settings, TrainConfig)
            return cls(record["architecture"], record["head"], scheme, preparation, record["metrics"], settings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"model.json is not one of this job ({error!r}); train again or give another: {where}"
            ) from None


def build_described(description: Description, source: Path) -> nn.Module:
    """Create the network of a description; raises ModelError whatever a description made by hand makes Python raise."""
    try:
        _check_description(description, source)
        return description.build()
    except JobError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else 'no reason given'}"
        raise ModelError(f"the model cannot be built from its {DESCRIPTION} ({reason}): {source}") from error


def _check_description(description: Description, folder: Path) -> None:
    """Raise ModelError for a preparation that training never writes, or class names that are not UTF-8."""
    preparation = description.preparation
    sides = [*preparation.size, *(preparation.crop or (8, 8))]  # a crop larger than an image is the image
    if not all(isinstance(side, int) and side >= 1 for side in sides) or len(sides) != 4 or max(sides[:2]) > MAX_SIDE:
        raise ModelError(f"size {preparation.size} or crop {preparation.crop} is not that of an image: {folder}")
    if preparation.fit not in FITS:
        raise ModelError(f"fit {preparation.fit!r} is not one of {', '.join(FITS)}: {folder}")
    if not _are_statistics(preparation):
        raise ModelError(f"mean {preparation.mean} or std {preparation.std} is not three numbers: {folder}")
    for name in description.scheme.classes:
        name.encode()


def _are_statistics(preparation: Preparation) -> bool:
    """Return whether mean and std are three finite numbers each, and no std is 0."""
    numbers = [*preparation.mean, *preparation.std]
    return len(numbers) == 6 and all(map(math.isfinite, numbers)) and all(std > 0 for std in preparation.std)
