"""The report's page: template.html, filled in by Jinja2 with every value escaped. No torch.

The page is one self-contained file: images are data: URIs, there is no script, and a policy in its head lets it load
nothing. To change how the report looks, open template.html
and style.css, which the page of an audit shares (audit_page.py).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report.heat import Heat
from report.results import Results


@dataclass(frozen=True)
class ShownImage:
    """One prediction as the page shows it: the image as JPEG, the lines of `figures.compare`, the file name.

    `overlay` is its heat map as PNG, empty if there is none, and `place` where in the image there is most heat.
    """

    jpeg: bytes
    lines: Sequence[str]
    confidence: float
    name: str
    overlay: bytes = b""
    place: str = ""


def render(
    title: str,
    results: Results,
    charts: Mapping[str, bytes],
    mistakes: Sequence[ShownImage],
    settings: Mapping[str, object],
    heat: Heat | None = None,
    examples: Sequence[ShownImage] = (),
) -> str:
    """Return the page as HTML; `charts` are PNG files by name, as `write_report` makes them.

    With `heat`, there is a section about heat maps, with `examples` of right predictions.
    """
    return _TEMPLATE.render(
        title=title,
        results=results,
        charts=charts,
        mistakes=mistakes,
        settings=settings,
        heat=heat,
        examples=examples,
    )


def data_uri(data: bytes, media_type: str) -> str:
    """Return a file as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def chart_width(png: bytes) -> int:
    """Return the width of a chart on the page, in CSS pixels: stored at 120 dots per inch, shown at 100."""
    return int.from_bytes(png[16:20], "big") * 5 // 6


def environment() -> Environment:
    """Create the environment of the templates: values are escaped, and a name that is not passed is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "data_uri": data_uri,
        "chart_width": chart_width,
        "decimals": "{:.3f}".format,
        "percent": "{:.1%}".format,
        "thousands": "{:,}".format,
    }
    return environment


_TEMPLATE = environment().get_template("template.html")  # at import: a broken template is an error before training
