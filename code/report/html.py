"""One self-contained HTML page: text, tables and images in a single file that opens from disk. No torch.

Images are data: URIs, there is no script, and a policy in the head forbids the page to load anything. It follows
the reader's dark mode and fits a phone. Every text is escaped here, so that callers pass what they have.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b6570; --line: #e2e6ea; --page: #f6f7f9; --card: #fff;
  --accent: #0072b2; --bar: #cfe4f2; --blend: multiply; --invert: none; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --soft: #9aa5b1; --line: #2c333b; --page: #101418;
  --card: #181d23; --accent: #6cb8e6; --bar: #1f4a66; --blend: screen; --invert: invert(1) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 .5rem; font-size: 1.15rem; }
p { margin: .25rem 0 1rem; max-width: 46rem; }
.soft, figcaption, th, nav { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1rem 0; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
section { margin: 1rem 0; padding: 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .6rem; margin: 1.25rem 0; }
dl div { padding: .7rem .8rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.4rem; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.wide img { display: block; max-width: 100%; height: auto; filter: var(--invert); mix-blend-mode: var(--blend); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(280px, 100%), 1fr)); gap: 1rem;
  align-items: start; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
.number { text-align: right; }
td.share { min-width: 5.5rem; background: linear-gradient(to right, var(--bar) var(--share), transparent 0) no-repeat
  left center / calc(100% - .3rem) 72%; }
.settings { columns: 300px; column-gap: 2rem; font-size: .9rem; }
.settings div { display: flex; gap: 1rem; justify-content: space-between; padding: .2rem 0; break-inside: avoid;
  border-bottom: 1px solid var(--line); }
.settings code { text-align: right; overflow-wrap: anywhere; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1.1rem .9rem; }
.gallery figure { margin: 0; font-size: .85rem; line-height: 1.4; }
.gallery img { display: block; width: 100%; height: auto; border-radius: 6px; margin-bottom: .35rem; }
.gallery b, .gallery span { display: block; overflow-wrap: anywhere; white-space: pre-line; }
.gallery b { color: var(--ink); }
@media (max-width: 700px) { body { padding: 1.25rem .75rem 3rem; } section { padding: 1rem .85rem; }
  .large img { max-width: none; width: 700px; }
  .gallery { grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); } }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<style>{_STYLE}</style>
"""

Cell = str | int | float


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading; `body` is HTML from the functions below."""

    heading: str
    body: str

    @property
    def anchor(self) -> str:
        return self.heading.lower().replace(" ", "-")


def document(title: str, subtitle: str, numbers: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole page: title, the big numbers (name, value), links to the sections, the sections."""
    tiles = "\n".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in numbers)
    links = "\n".join(f'<a href="#{section.anchor}">{_text(section.heading)}</a>' for section in sections)
    parts = "\n".join(
        f'<section id="{section.anchor}">\n<h2>{_text(section.heading)}</h2>\n{section.body}\n</section>'
        for section in sections
    )
    return (
        f"{_HEAD}<title>{_text(title)}</title>\n</head>\n<body>\n"
        f'<h1>{_text(title)}</h1>\n<p class="soft">{_text(subtitle)}</p>\n<dl>\n{tiles}\n</dl>\n'
        f"<nav>\n{links}\n</nav>\n{parts}\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    return f'<p class="soft">{_text(text)}</p>'


def chart(png: bytes, description: str) -> str:
    """A figure in black on white; it becomes white on black in dark mode, and scrolls sideways on a phone if large."""
    width = int.from_bytes(png[16:20], "big") * 5 // 6  # stored at 120 dots per inch, shown at 100
    large = " large" if width > 560 else ""
    source = _data_uri(png, "image/png")
    return f'<div class="wide{large}"><img width="{width}" alt="{_text(description)}" src="{source}"></div>'


def side_by_side(parts: Sequence[str]) -> str:
    return '<div class="row">\n' + "\n".join(parts) + "\n</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; a float is a share from 0 to 1, shown with a bar behind it."""
    sides = [' class="number"' if isinstance(cell, int | float) else "" for cell in rows[0]]
    head = "".join(f"<th{side}>{_text(cell)}</th>" for side, cell in zip(sides, header, strict=True))
    body = "\n".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def folded(summary: str, body: str) -> str:
    """Something long that opens at a click."""
    return f"<details><summary>{_text(summary)}</summary>\n{body}\n</details>"


def settings_list(settings: Sequence[tuple[str, str]]) -> str:
    rows = "\n".join(f"<div><span>{_text(name)}</span><code>{_text(value)}</code></div>" for name, value in settings)
    return f'<div class="settings">\n{rows}\n</div>'


def gallery(images: Sequence[tuple[bytes, Sequence[str], Sequence[str]]]) -> str:
    """Images as JPEG files, each with the lines that matter in bold, and remarks below."""
    figures = []
    for jpeg, lines, remarks in images:
        bold = "".join(f"<b>{_text(line)}</b>" for line in lines)
        below = "".join(f"<span>{_text(remark)}</span>" for remark in remarks)
        image = f'<img alt="{_text(", ".join(lines))}" src="{_data_uri(jpeg, "image/jpeg")}">'
        figures.append(f"<figure>{image}<figcaption>{bold}{below}</figcaption></figure>")
    return '<div class="gallery">\n' + "\n".join(figures) + "\n</div>"


def _cell(value: Cell) -> str:
    if isinstance(value, float):
        return f'<td class="number share" style="--share: {value:.1%}">{value:.3f}</td>'
    return f'<td class="number">{value:,}</td>' if isinstance(value, int) else f"<td>{_text(value)}</td>"


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _text(value: str) -> str:
    return html.escape(value)
