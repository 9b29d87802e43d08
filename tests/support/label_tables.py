"""Label tables for tests: a folder of empty images with a table, and text that can be a label."""

import unicodedata
from pathlib import Path

from hypothesis import strategies as st

from data.samples import Samples

PETS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\0"), min_size=1)
LABELS = TEXT.map(lambda text: unicodedata.normalize("NFC", text.strip())).filter(bool)


def folder(root: Path, table: str | bytes, *names: str, file: str = "labels.csv") -> Path:
    """Create empty images and a label table."""
    for name in names or PETS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / file).write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def named(samples: Samples) -> dict[str, str]:
    """Return the name of the class of every image."""
    return {
        path: samples.scheme.classes[label] for path, label in zip(samples.table["path"], samples.labels, strict=True)
    }
