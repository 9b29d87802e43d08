"""html.py and template.html: the page needs nothing else, and no text becomes markup."""

from collections.abc import Mapping, Sequence

import jinja2
import numpy as np
import pytest

from labels import MASKED_FACES, LabelScheme
from report import html
from report.figures import image_grid, png
from report.html import ShownImage, render
from report.results import Results

HOSTILE = "\"><script>alert(1)</script>&amp;'"
ESCAPED = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#39;"
PETS = LabelScheme("pets", ("cat", "dog"))


def chart(columns: int = 1) -> bytes:
    return png(image_grid([], [], columns=columns))


def page(
    scheme: LabelScheme = PETS,
    *,
    title: str = "Title",
    charts: Mapping[str, bytes] | None = None,
    mistakes: Sequence[ShownImage] = (),
    settings: Mapping[str, object] | None = None,
    images: int = 1,
) -> str:
    """Render a page in which class 0 has `images` images, one of which is predicted as the last class."""
    labels = np.zeros(images, np.int64)
    predictions = np.where(np.arange(images) == 0, scheme.num_classes - 1, 0)
    results = Results(scheme, [], labels, np.eye(scheme.num_classes, dtype=np.float32)[predictions], "f1")
    names = ["confusion", "calibration", *(f"confusion_{task.name}" for task in scheme.tasks)]
    return render(title, results, charts or dict.fromkeys(names, chart()), mistakes, settings or {})


def test_every_text_is_escaped() -> None:
    pages = {
        "title": page(title=HOSTILE),
        "class": page(LabelScheme("hostile", (HOSTILE, "dog"))),
        "setting": page(settings={HOSTILE: ""}),
        "value": page(settings={"": HOSTILE}),
        "image": page(mistakes=[ShownImage(b"", ("cat",), 0.5, HOSTILE)]),
        "caption": page(mistakes=[ShownImage(b"", (HOSTILE,), 0.5, "a.jpg")]),
    }
    for name, text in pages.items():
        assert "<script" not in text, name
        assert ESCAPED in text, name


def test_the_alternative_text_of_an_image_is_escaped() -> None:
    assert f'alt="{ESCAPED}, b"' in page(mistakes=[ShownImage(b"", (HOSTILE, "b"), 0.5, "a.jpg")])


def test_a_page_may_load_nothing_and_follows_dark_mode_and_phones() -> None:
    text = page()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_a_table_writes_shares_with_a_bar_and_aligns_numbers() -> None:
    text = page(images=1250)
    assert '<th>Class</th><th class="number">Images</th><th class="number">Precision</th>' in text
    assert '<td>cat</td><td class="number">1,250</td>' in text
    assert 'style="--share: 99.9%">0.999</td>' in text


@pytest.mark.parametrize("scheme", [PETS, MASKED_FACES], ids=lambda scheme: scheme.name)
def test_links_lead_to_the_sections(scheme: LabelScheme) -> None:
    text = page(scheme)
    assert '<a href="#worst-mistakes">Worst mistakes</a>' in text
    assert '<section id="worst-mistakes">\n<h2>Worst mistakes</h2>\n' in text
    assert [part.split('"')[0] for part in text.split('href="#')[1:]] == [
        part.split('"')[0] for part in text.split('<section id="')[1:]
    ]


def test_a_large_chart_scrolls_and_a_small_one_shrinks_on_a_phone() -> None:
    small, large = chart(columns=1), chart(columns=6)
    text = page(charts={"confusion": small, "calibration": large})
    width = html.chart_width(large)
    assert html.chart_width(small) < 560 < width
    assert f'<div class="wide"><img width="{html.chart_width(small)}" ' in text
    assert f'<div class="wide large"><img width="{width}" ' in text


def test_a_value_that_the_template_misses_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="calibration"):
        page(charts={"confusion": chart()})
