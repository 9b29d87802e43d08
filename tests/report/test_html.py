"""page.py: one file that needs nothing else, and in which no text becomes markup."""

from report import html as page
from report.figures import image_grid, png

HOSTILE = "\"><script>alert(1)</script>&amp;'"
ESCAPED = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#x27;"


def test_every_text_is_escaped() -> None:
    chart = png(image_grid([], [], columns=1))
    for part in (
        page.document(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], [page.Section("Heading", "")]),
        page.paragraph(HOSTILE),
        page.chart(chart, HOSTILE),
        page.table((HOSTILE,), [(HOSTILE,)]),
        page.folded(HOSTILE, ""),
        page.settings_list([(HOSTILE, HOSTILE)]),
        page.gallery([(b"", (HOSTILE,), (HOSTILE,))]),
    ):
        assert "<script" not in part
        assert ESCAPED in part


def test_a_page_may_load_nothing_and_follows_dark_mode_and_phones() -> None:
    text = page.document("Title", "", [], [])
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_a_table_writes_shares_with_a_bar_and_aligns_numbers() -> None:
    text = page.table(("Class", "Images", "F1"), [("cat", 1234, 0.5)])
    assert '<th>Class</th><th class="number">Images</th><th class="number">F1</th>' in text
    assert '<td>cat</td><td class="number">1,234</td>' in text
    assert 'style="--share: 50.0%">0.500</td>' in text


def test_links_lead_to_the_sections() -> None:
    text = page.document("Title", "", [], [page.Section("Worst mistakes", "<p>none</p>")])
    assert '<a href="#worst-mistakes">Worst mistakes</a>' in text
    assert '<section id="worst-mistakes">\n<h2>Worst mistakes</h2>\n<p>none</p>' in text


def test_a_large_chart_scrolls_and_a_small_one_shrinks_on_a_phone() -> None:
    small, large = (png(image_grid([], [], columns=columns)) for columns in (1, 6))
    assert 'class="wide"' in page.chart(small, "")
    assert 'class="wide large"' in page.chart(large, "")
