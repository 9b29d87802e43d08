"""Names of files, images and classes as text: the same name in another Unicode form, not UTF-8, a number. No torch.

macOS and some archives store `é` as two code points (Unicode form NFD), tables and other systems as one (NFC). Both
are the same name to a user, so every join compares `canonical_name`. Files are opened by the name that is on the disk.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from runtime.errors import DataError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def canonical_name(name: str) -> str:
    """Return a name in Unicode form NFC (Unicode Standard Annex 15); two names are the same if these are equal."""
    return unicodedata.normalize("NFC", name)


def check_names(names: Iterable[str], where: Path) -> None:
    """Raise DataError for a name that is not UTF-8, and for two that differ only in their Unicode form."""
    seen: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the name {name!r} is not UTF-8, rename the file or folder: {where}") from None
        if seen.setdefault(canonical_name(name), name) != name:
            twin = seen[canonical_name(name)]
            raise DataError(
                f"the names {twin!a} and {name!a} differ only in their Unicode form, rename one of them: {where}"
            )


def first_names(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list for a message: `a, b, c, ...`."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def read_number(text: str) -> float | None:
    """Return the number that a spreadsheet reads in a text, 1 for `01`, `1` and `1.0`; None if it reads none."""
    return float(text) if _NUMBER.fullmatch(text) else None
