"""Names as one line of a figure: of letters that its font has, and no longer than there is room for. No torch."""

from bisect import bisect_right
from functools import cache

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

FONT = "DejaVu Sans"  # included in matplotlib
LONG_NAME = 36  # characters
_DOTS = "..."
_DOTS_PER_INCH = 100  # of the grids of images


def shorten(name: str, most: int = LONG_NAME) -> str:
    """Return a name as one line of at most `most` characters; letters that the font lacks become squares."""
    line = _drawable(name)
    return line if len(line) <= most else line[: most - len(_DOTS)] + _DOTS


def shorten_to_width(name: str, inches: float, points: float) -> str:
    """Return a name as one line of at most so many inches, in letters of a size in points: W is wider than i."""
    line = _drawable(name)
    if _inches(line, points) <= inches:
        return line
    too_long = bisect_right(range(len(line)), inches, key=lambda end: _inches(line[:end] + _DOTS, points))
    return line[: max(0, too_long - 1)] + _DOTS


def _drawable(name: str) -> str:
    """Return a name without line breaks, with a square for each letter that the font lacks."""
    return "".join(letter if ord(letter) in _letters() else "\N{WHITE SQUARE}" for letter in " ".join(name.split()))


@cache
def _letters() -> frozenset[int]:
    """Return the code points in the font."""
    return frozenset(get_font(findfont(FONT)).get_charmap())


@cache
def _ruler() -> Text:
    """Return a text that is drawn nowhere, to measure others: letters are fitted to pixels, so widths do not add up."""
    figure = Figure(dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure.text(0, 0, "", family=FONT, parse_math=False)


def _inches(line: str, points: float) -> float:
    """Return the width of a line."""
    text = _ruler()
    text.set(text=line, size=points)
    return float(text.get_window_extent().width) / _DOTS_PER_INCH
