"""Findings of an audit: what each kind means, how it is found, and the rows of audit.csv. No torch."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial

import numpy as np

from data.audited import EVAL, AuditedImage
from data.duplicates import Pairs, are_blank, connecting
from data.looking import Looked
from data.suspects import Suspect
from labels import MULTI, LabelScheme, split_labels

EXACT, NEAR, MIRRORED = "exact_duplicate", "near_duplicate", "mirrored_duplicate"
SUSPECTED, UNREADABLE, BLANK = "suspected_label", "unreadable", "blank"
TINY, EXTREME, FEW = "tiny", "extreme_shape", "few_images"
DUPLICATES = (EXACT, NEAR, MIRRORED)
KINDS = (*DUPLICATES, SUSPECTED, UNREADABLE, BLANK, TINY, EXTREME, FEW)
_SAME = {EXACT: "the same file", NEAR: "nearly the same image", MIRRORED: "nearly the same image, mirrored"}


@dataclass(frozen=True)
class Finding:
    """A row of audit.csv.

    `score` is the distance of duplicates in grey levels, the confidence of the model, the pixels of the shorter side,
    the ratio of the sides, or the number of images of a class.
    """

    kind: str
    path: str = ""
    other_path: str = ""
    part: str = ""
    other_part: str = ""
    label: str = ""
    other_label: str = ""
    score: float = 0.0
    message: str = ""

    @property
    def has_conflict(self) -> bool:
        """Return True for duplicates with different labels."""
        return self.kind in DUPLICATES and _differ(self.label, self.other_label)

    @property
    def is_across(self) -> bool:
        """Return True for duplicates in different parts."""
        return self.kind in DUPLICATES and self.part != self.other_part


def duplicate_findings(images: Sequence[AuditedImage], pairs: Pairs) -> list[Finding]:
    """Return a finding for each pair of duplicates, of those that are needed to connect all copies of an image.

    Pairs with different labels come first, then pairs in different parts, then the nearest.
    """
    each = [(images[one], images[other]) for one, other in pairs.indices.tolist()]
    conflicts = np.array([_differ(one.label, other.label) for one, other in each], np.bool_)
    across = np.array([one.part != other.part for one, other in each], np.bool_)
    chosen = connecting(pairs, (conflicts, across))
    kinds = np.select([chosen.are_exact, chosen.are_mirrored], [EXACT, MIRRORED], NEAR)
    return [
        _duplicate(images[one], images[other], kind, distance)
        for (one, other), kind, distance in zip(
            chosen.indices.tolist(), kinds.tolist(), chosen.distances.tolist(), strict=True
        )
    ]


def image_findings(images: Sequence[AuditedImage], looked: Looked, *, min_side: int, max_ratio: float) -> list[Finding]:
    """Return a finding for each image that cannot be read, shows nothing, is tiny, or is of an extreme shape."""
    found, blank = [], are_blank(looked.signatures)
    for index, image in enumerate(images):
        about = partial(Finding, path=image.path, part=image.part, label=image.label)
        if error := looked.errors.get(index):
            reason = str(error).removesuffix(f": {image.file}")
            found.append(about(UNREADABLE, message=reason))
            continue
        width, height = looked.sizes[index].tolist()
        shorter, ratio = min(width, height), max(width, height) / min(width, height)
        if blank[index]:
            found.append(about(BLANK, message="the image has one colour"))
        if shorter < min_side:
            message = f"{width} x {height} pixels, expected at least {min_side} on each side"
            found.append(about(TINY, score=float(shorter), message=message))
        if ratio > max_ratio:
            message = f"{width} x {height} pixels, one side is {ratio:.1f} times the other; most of it may be lost"
            found.append(about(EXTREME, score=round(ratio, 2), message=message))
    return found


def class_findings(
    images: Sequence[AuditedImage], looked: Looked, scheme: LabelScheme, min_images: int
) -> list[Finding]:
    """Return a finding for each class with fewer than `min_images` images with this label that can be read."""
    labels = [image.label for image, usable in zip(images, looked.usable.tolist(), strict=True) if usable]
    counts = Counter(part for label in labels for part in (split_labels(label) if scheme.kind == MULTI else [label]))
    return [
        Finding(
            FEW,
            label=name,
            score=float(counts[name]),
            message=f"the class has {counts[name]} images, expected at least {min_images}",
        )
        for name in scheme.classes
        if counts[name] < min_images
    ]


def suspect_findings(images: Sequence[AuditedImage], suspects: Iterable[Suspect]) -> list[Finding]:
    """Return a finding for each suspected label of `images`, which are those that the model has predicted."""
    return [
        Finding(
            SUSPECTED,
            path=images[suspect.index].path,
            part=images[suspect.index].part,
            label=suspect.label,
            other_label=suspect.predicted,
            score=round(suspect.confidence, 4),
            message=f"the label is {suspect.label!r}, the model is sure of {suspect.predicted!r}",
        )
        for suspect in suspects
    ]


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by severity: duplicates with different labels, across parts, suspected labels, the others.

    Within a kind, the nearest duplicates and the surest suspects come first.
    """

    def key(finding: Finding) -> tuple[int, int, float, str, str]:
        group = 0 if finding.has_conflict else 1 if finding.is_across else 2 if finding.kind == SUSPECTED else 3
        score = -finding.score if finding.kind in (SUSPECTED, EXTREME) else finding.score
        return group, KINDS.index(finding.kind), score, finding.path, finding.label

    return sorted(findings, key=key)


def as_csv(findings: Iterable[Finding]) -> str:
    """Return the text of audit.csv: a header, and a row for each finding."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Finding))
    writer.writerows(astuple(finding) for finding in findings)
    return text.getvalue()


def _differ(label: str, other: str) -> bool:
    return bool(label and other) and label != other


def _duplicate(one: AuditedImage, other: AuditedImage, kind: str, distance: float) -> Finding:
    message = _SAME[kind]
    if _differ(one.label, other.label):
        message += f", with the labels {one.label!r} and {other.label!r}; one of them is wrong"
    elif one.part != other.part:
        inflated = "eval" if EVAL in (one.part, other.part) else "validation"
        message += f" in {one.part} and {other.part}, which inflates the {inflated} scores"
    return Finding(
        kind,
        path=one.path,
        other_path=other.path,
        part=one.part,
        other_part=other.part,
        label=one.label,
        other_label=other.label,
        score=round(distance, 2),
        message=message,
    )
