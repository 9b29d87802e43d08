"""gt.csv and output.csv of generated labels, for tests of data/predictions.py and evaluation.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def image_name(index: int) -> str:
    """Return an ImageID like the competition's, in no order."""
    return f"{index * 7919 % 100003:040x}.jpg"


def write_table(path: Path, rows: Mapping[str, object], header: str = "ImageID,ans") -> Path:
    """Write a csv file with a line `key,value` for each row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(f"{key},{value}" for key, value in rows.items())]) + "\n")
    return path


class PredictionTables:
    """A folder with gt.csv and a folder with output.csv."""

    def __init__(self, root: Path) -> None:
        self.gt_dir, self.pred_dir = root / "gt", root / "output"

    @property
    def gt_csv(self) -> Path:
        return self.gt_dir / "gt.csv"

    @property
    def output_csv(self) -> Path:
        return self.pred_dir / "output.csv"

    def write(
        self, ground_truth: Sequence[object] | NDArray[Any], predictions: Sequence[object] | NDArray[Any], seed: int = 0
    ) -> None:
        """Write gt.csv in order and output.csv shuffled."""
        order = np.random.default_rng(seed).permutation(len(predictions))
        write_table(self.gt_csv, {image_name(index): label for index, label in enumerate(ground_truth)})
        write_table(self.output_csv, {image_name(index): predictions[index] for index in order})

    def write_persons(self, images: int, each: int) -> None:
        """Write persons.csv: so many images of each person, and an image that gt.csv does not name."""
        persons = {image_name(index): f"{index // each:06}" for index in range(images)}
        write_table(self.gt_dir / "persons.csv", persons | {"of-training.jpg": "000999"}, "ImageID,id")
