"""names.py: a name is one line that fits, whatever its letters are."""

import pytest

from report.figures import new_figure
from report.names import FONT, shorten, shorten_to_width


def test_shorten_keeps_short_names_and_puts_the_others_on_one_line() -> None:
    assert shorten("30-59") == "30-59"
    assert shorten("a\nb\t c") == "a b c"
    assert shorten("x" * 200, 10) == "xxxxxxx..."
    assert shorten("\uace0") == "\N{WHITE SQUARE}"


@pytest.mark.parametrize("letter", ["W", "i", "c", "M", "\uace0", "\N{RIGHTWARDS ARROW}"])
def test_a_shortened_name_is_as_wide_as_there_is_room_whatever_its_letters_are(letter: str) -> None:
    shown = shorten_to_width(letter * 200, inches=1.6, points=7)
    text = new_figure(2, 1, layout=None).text(0, 0, shown, family=FONT, size=7)
    assert shown.endswith("...")
    assert 140 < text.get_window_extent().width <= 160


def test_a_name_for_which_there_is_room_is_kept() -> None:
    assert shorten_to_width("confidence 12.3%", inches=1.6, points=7) == "confidence 12.3%"
    assert shorten_to_width("", inches=1.6, points=7) == ""
