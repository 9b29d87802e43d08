"""The page of an audit: audit.html, filled in by Jinja2 with every value escaped. No torch."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.audited import AuditedImage
from data.findings import BLANK, EXTREME, FEW, SUSPECTED, TINY, UNREADABLE, Finding
from report.html import environment

MOST_SHOWN = 100  # findings of each section; audit.csv has all


@dataclass(frozen=True)
class Section:
    """A section of the page: its anchor, its title, what its findings mean, and the findings."""

    anchor: str
    title: str
    meaning: str
    findings: Sequence[Finding]

    @property
    def shown(self) -> Sequence[Finding]:
        return self.findings[:MOST_SHOWN]


def _of_kind(kind: str) -> Callable[[Finding], bool]:
    return lambda finding: finding.kind == kind


# In the order of the page; a finding belongs to the first section that takes it.
_SECTIONS: tuple[tuple[str, str, str, Callable[[Finding], bool]], ...] = (
    (
        "conflicts",
        "Duplicates with different labels",
        "One image has two labels, so at least one of them is wrong.",
        lambda finding: finding.has_conflict,
    ),
    (
        "across",
        "Duplicates in different parts",
        "The model has seen these images in training, so its scores on the other part are too high.",
        lambda finding: finding.is_across,
    ),
    (
        "suspects",
        "Suspected labels",
        "The model contradicts the label as surely as it is usually right. Some of these labels may be right.",
        _of_kind(SUSPECTED),
    ),
    (
        "duplicates",
        "Other duplicates",
        "Copies in one part count more than other images.",
        lambda finding: bool(finding.other_path),
    ),
    ("unreadable", "Unreadable images", "Training stops at these, or leaves them out.", _of_kind(UNREADABLE)),
    ("blank", "Blank images", "These images show nothing.", _of_kind(BLANK)),
    ("tiny", "Tiny images", "These images have few pixels.", _of_kind(TINY)),
    ("shapes", "Extreme shapes", "These images are much longer than wide, or wider than long.", _of_kind(EXTREME)),
    ("classes", "Classes with few images", "A model can hardly learn these classes.", _of_kind(FEW)),
)


def sections(findings: Sequence[Finding]) -> list[Section]:
    """Return the sections of the page, also those without findings."""
    found: dict[str, list[Finding]] = {anchor: [] for anchor, *_ in _SECTIONS}
    for finding in findings:
        found[next(anchor for anchor, _, _, takes in _SECTIONS if takes(finding))].append(finding)
    return [Section(anchor, title, meaning, found[anchor]) for anchor, title, meaning, _ in _SECTIONS]


def shown(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings that the page shows with images."""
    for section in sections(findings):
        yield from section.shown


def render_audit(images: Sequence[AuditedImage], findings: Sequence[Finding], thumbnails: Mapping[str, bytes]) -> str:
    """Return the page as HTML; `thumbnails` are small JPEG files by the path of their image."""
    return _TEMPLATE.render(
        parts=Counter(image.part for image in images), sections=sections(findings), thumbnails=thumbnails
    )


_TEMPLATE = environment().get_template("audit.html")
