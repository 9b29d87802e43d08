"""audit_page.py and audit.html: every finding is in one section, many are capped, and no text becomes markup."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.audited import AuditedImage
from data.findings import KINDS, Finding
from report.audit_page import MOST_SHOWN, render_audit, sections, shown

HOSTILE = "\"><script>alert(1)</script>&amp;'"
ESCAPED = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#39;"
LEAK = Finding("near_duplicate", "train/a.jpg", "eval/b.jpg", "train", "eval", score=0.5, message="nearly the same")


def page(findings: Sequence[Finding], *thumbnails: str) -> str:
    images = [AuditedImage(Path("a"), "train/a.jpg", "train", "cat")] * 1234
    return render_audit(images, findings, dict.fromkeys(thumbnails, b"jpeg"))


def test_every_kind_of_finding_has_its_section() -> None:
    found = [Finding(kind, "a", "b" if "duplicate" in kind else "") for kind in KINDS]
    found += [LEAK, Finding("exact_duplicate", "a", "b", label="cat", other_label="dog")]
    assert sum(len(section.findings) for section in sections(found)) == len(found)
    by_anchor = {section.anchor: section.findings for section in sections(found)}
    assert by_anchor["across"] == [LEAK]
    assert by_anchor["conflicts"] == found[-1:]
    assert [finding.kind for finding in by_anchor["duplicates"]] == list(KINDS[:3])


def test_a_section_shows_the_worst_and_says_how_many_there_are() -> None:
    found = [Finding("tiny", f"train/{number}.jpg") for number in range(MOST_SHOWN + 5)]
    text = page(found)
    assert f"The worst {MOST_SHOWN} of {MOST_SHOWN + 5} are shown." in " ".join(text.split())
    assert "<h2>Tiny images: 105</h2>" in text
    assert f"train/{MOST_SHOWN - 1}.jpg" in text
    assert f"train/{MOST_SHOWN}.jpg" not in text
    assert list(shown(found)) == found[:MOST_SHOWN]


def test_a_pair_is_shown_side_by_side() -> None:
    text = page([LEAK], "train/a.jpg", "eval/b.jpg")
    image = '<img alt="{}" src="data:image/jpeg;base64,anBlZw==">'
    assert f'<div class="pair">{image.format("train/a.jpg")}{image.format("eval/b.jpg")}</div>' in text
    assert "1,234 images in train" in text
    assert "distance 0.5" in text


def test_a_page_without_findings_says_so() -> None:
    text = page([])
    assert text.count("None found.") == len(sections([]))
    assert "<figure>" not in text


@pytest.mark.parametrize("field", ["path", "other_path", "label", "other_label", "message"])
def test_every_text_is_escaped(field: str) -> None:
    change: dict[str, Any] = {field: HOSTILE}
    finding = replace(Finding("near_duplicate", "a", "b", label="cat"), **change)
    text = page([finding], HOSTILE, "a", "b")
    assert "<script" not in text
    assert ESCAPED in text


def test_a_page_may_load_nothing_and_links_lead_to_the_sections() -> None:
    text = page([LEAK])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "prefers-color-scheme: dark" in text
    assert [part.split('"')[0] for part in text.split('href="#')[1:]] == [
        part.split('"')[0] for part in text.split('<section id="')[1:]
    ]
