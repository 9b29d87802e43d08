"""names.py: NFC and NFD of one name are the same name, and a name that is not UTF-8 is one sentence."""

import unicodedata
from pathlib import Path

import pytest

from data.names import canonical_name, check_names, first_names, read_number
from runtime.errors import DataError

NFC, NFD = "caf\u00e9.jpg", "cafe\u0301.jpg"


def test_nfc_and_nfd_of_one_name_are_the_same_name() -> None:
    assert unicodedata.normalize("NFD", NFC) == NFD
    assert canonical_name(NFC) == canonical_name(NFD) == NFC
    assert canonical_name("ABC-12_a b.jpg") == "ABC-12_a b.jpg"
    assert canonical_name("caf\udce9.jpg") == "caf\udce9.jpg"


def test_two_names_that_differ_only_in_their_unicode_form_are_rejected() -> None:
    check_names([NFC, "b.jpg", NFC], Path("eval"))
    sentence = (
        r"the names 'caf\\xe9\.jpg' and 'cafe\\u0301\.jpg' differ only in their Unicode form, rename one of them: eval"
    )
    with pytest.raises(DataError, match=sentence):
        check_names([NFC, "b.jpg", NFD], Path("eval"))


def test_a_name_that_is_not_utf_8_is_rejected() -> None:
    with pytest.raises(DataError, match=r"the name 'caf\\udce9\.jpg' is not UTF-8, rename the file or folder: eval"):
        check_names(["caf\udce9.jpg"], Path("eval"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("01", 1), ("1.0", 1), ("+1.", 1), ("1E+2", 100), ("-0.5", -0.5), (".5", 0.5)]
    + [(text, None) for text in ("", "cat", "1_0", "nan", "inf", "1 2", "1-2", "\u0661", "0x1", "e5", ".")],
)
def test_a_number_is_read_as_a_spreadsheet_reads_it(text: str, number: float | None) -> None:
    assert read_number(text) == number


def test_at_most_three_names_are_listed() -> None:
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a", "b", "c", "d"]) == "a, b, c, ..."
