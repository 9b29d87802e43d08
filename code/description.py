"""The content of `model.json`: what a network is, which images it takes, and what its outputs mean. No torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from calibration import TemperatureScaling, UnsureThresholds
from config import TrainConfig
from data.fitting import FITS
from data.images import Preparation
from labels import MULTI, LabelScheme
from runtime.arguments import upgrade
from runtime.errors import JobError, ModelError, reason_of
from runtime.version import version

if TYPE_CHECKING:
    from torch import nn

DESCRIPTION = "model.json"
FORMAT = 2  # count up when the keys of model.json change; every earlier format stays readable
MAX_SIDE = 4096  # pixels; a larger model size would exhaust the memory
MAX_MEMBERS = 100  # of an ensemble
ENSEMBLE = "Ensemble"  # the architecture of a model with members


@dataclass(frozen=True)
class Description:
    """The content of `model.json`, except versions and checksum.

    An ensemble has `members`, which have its scheme, and its preparation except for mean and std; each has its own
    temperature. `calibration` and `unsure_thresholds` are None for a model that was not calibrated, such as one of a
    stopped run.
    """

    architecture: str
    head: str
    scheme: LabelScheme
    preparation: Preparation
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    members: tuple["Description", ...] = ()
    calibration: TemperatureScaling | None = None
    unsure_thresholds: UnsureThresholds | None = None
    thresholds: tuple[float, ...] = ()  # decision thresholds (classes,) of several labels, else none

    @property
    def temperature(self) -> float:
        """Return what the logits are divided by before the softmax."""
        return self.calibration.temperature if self.calibration else 1.0

    def build(self) -> "nn.Module":
        """Create the network, with random weights."""
        from ensemble import Ensemble  # these import torch, and a server may do without it
        from model import create_model

        if self.members:
            networks = [member.build() for member in self.members]
            preparations = [member.preparation for member in self.members]
            return Ensemble(networks, preparations, [member.temperature for member in self.members])
        return create_model(self.architecture, self.scheme, head=self.head, size=self.preparation.size)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON; only an ensemble has members, without the scheme, which is its own.

        What is None has no entry.
        """
        members = [member.to_dict() for member in self.members]
        for member in members:
            del member["scheme"]
        optional = {"calibration": self.calibration, "unsure_thresholds": self.unsure_thresholds}
        return {
            "architecture": self.architecture,
            "head": self.head,
            "scheme": self.scheme.to_dict(),
            "preparation": self.preparation.to_dict(),
            "metrics": dict(self.metrics),
            "settings": dict(self.settings),
            **({"members": members} if members else {}),
            **{name: part.to_dict() for name, part in optional.items() if part is not None},
            **({"thresholds": list(self.thresholds)} if self.thresholds else {}),
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
            listed, shared = record.get("members", ()), {"format": found, "scheme": record["scheme"]}
            if any("members" in member for member in listed):
                raise ValueError("a member is an ensemble")
            members = tuple(cls.from_dict({**member, **shared}, where) for member in listed)
            decision = tuple(map(float, record.get("thresholds", ())))
            if decision and (scheme.kind != MULTI or len(decision) != scheme.num_classes):
                raise ValueError(f"{len(decision)} thresholds for {scheme.num_classes} classes")
            scaling, thresholds = record.get("calibration"), record.get("unsure_thresholds")
            return cls(
                *(record["architecture"], record["head"], scheme, preparation, record["metrics"], settings, members),
                calibration=TemperatureScaling.from_dict(scaling) if scaling else None,
                unsure_thresholds=UnsureThresholds.from_dict(thresholds, scheme.num_classes) if thresholds else None,
                thresholds=decision,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"model.json is not one of this job ({error!r}); train again or give another: {where}"
            ) from None


def describe_ensemble(members: Mapping[str, Description], metrics: Mapping[str, float] | None = None) -> Description:
    """Return the description of an ensemble of models, each under a name for messages.

    `metrics` are by default the means of those that all members have. Raises ModelError for fewer than two members, for
    an ensemble among them, and unless all have the same classes and take the same prepared images.
    """
    if not 2 <= len(members) <= MAX_MEMBERS:
        raise ModelError(f"an ensemble of {len(members)} models, expected 2 to {MAX_MEMBERS}")
    (first, ours), *others = members.items()
    for name, member in members.items():
        if member.scheme.kind == MULTI:
            raise ModelError(f"a model of several labels for each image cannot be in an ensemble: {name}")
        if member.members:
            raise ModelError(f"a member is an ensemble itself; give the models that it was made of: {name}")
    for name, its in others:
        if its.scheme != ours.scheme:
            raise ModelError(
                f"the models of an ensemble need the same classes, but {name} has {_named(its)} and {first} has "
                f"{_named(ours)}"
            )
        if difference := _difference(its.preparation, ours.preparation):
            raise ModelError(
                f"the models of an ensemble need the same prepared images, but {name} and {first} differ in "
                f"{difference}"
            )
    described = tuple(members.values())
    return Description(
        ENSEMBLE,
        "joint",
        ours.scheme,
        ours.preparation,
        _means(described) if metrics is None else metrics,
        {},
        described,
    )


def _named(description: Description) -> str:
    names = description.scheme.classes
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _difference(one: Preparation, other: Preparation) -> str:
    """Return in what the prepared images of two preparations differ, as a part of a message; empty if in nothing."""
    for name in ("size", "crop", "fit", *(("fill",) if one.fit == "pad" else ())):
        if (its := getattr(one, name)) != (ours := getattr(other, name)):
            return f"{name}: {its} and {ours}"
    return ""


def _means(members: Sequence[Description]) -> dict[str, float]:
    """Return the mean of each metric that all members have."""
    names = [name for name in members[0].metrics if all(name in member.metrics for member in members)]
    return {name: sum(member.metrics[name] for member in members) / len(members) for name in names}


def build_described(description: Description, source: Path) -> "nn.Module":
    """Create the network of a description; raises ModelError whatever a description made by hand makes Python raise."""
    try:
        _check_description(description, source)
        return description.build()
    except JobError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {reason_of(error, 100)}"
        raise ModelError(f"the model cannot be built from its {DESCRIPTION} ({reason}): {source}") from error


def read_described(record: dict[str, Any], folder: Path) -> Description:
    """Return the description in the content of a model.json, without the network; raises ModelError if it is none."""
    try:
        description = Description.from_dict(record, str(folder))
        _check_description(description, folder)
    except JobError:
        raise
    except Exception as error:  # whatever a description made by hand makes Python raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ModelError(f"{DESCRIPTION} cannot be used ({reason}): {folder}") from error
    return description


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
    if description.members:
        named = {f"member {number} of {folder}": member for number, member in enumerate(description.members)}
        if preparation != describe_ensemble(named).preparation:
            raise ModelError(f"the preparation of the ensemble is not that of its first member: {folder}")
        for member in description.members:
            _check_description(member, folder)


def _are_statistics(preparation: Preparation) -> bool:
    """Return whether mean and std are three finite numbers each, and no std is 0."""
    numbers = [*preparation.mean, *preparation.std]
    return len(numbers) == 6 and all(map(math.isfinite, numbers)) and all(std > 0 for std in preparation.std)
