"""Tables of probabilities in a golden pack: a row per file, a column per class. No torch."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.files import replacing

GOLDEN, EXPECTED = "golden.json", "expected.csv"
STAGES = ("images", "decoded", "prepared", "normalised")  # folders of the pack, in the order of the stages

Rows = Mapping[str, NDArray[np.float32]]  # path in the pack -> probabilities (classes,)


def write_rows(path: Path, rows: Rows) -> None:
    """Write a table `input,probability_0,probability_1,...`, every float32 with all of its digits."""
    count = len(next(iter(rows.values())))
    with replacing(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["input", *(f"probability_{label}" for label in range(count))])
        table.writerows([name, *map(str, probabilities)] for name, probabilities in rows.items())
