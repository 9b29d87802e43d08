"""Out-of-fold predictions keep their bits in a file, and an image is in one fold or the folds are rejected."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.out_of_fold import OutOfFold, join_folds
from runtime.errors import DataError


def drawn(paths: list[str], fold: int, classes: int = 3) -> OutOfFold:
    generator = np.random.default_rng(fold)
    labels = generator.integers(0, classes, len(paths))
    probabilities = generator.dirichlet(np.ones(classes), len(paths)).astype(np.float32)
    return OutOfFold(paths, labels, np.full(len(paths), fold), probabilities)


def test_what_is_written_comes_back_with_the_same_bits_and_pandas_reads_it(tmp_path: Path) -> None:
    written = drawn(["b/1, 2.jpg", 'a/"quoted".jpg', "cafe\u0301.jpg", "0012"], 2)
    written.write(tmp_path / "predictions.csv")
    found = OutOfFold.read(tmp_path / "predictions.csv")
    assert found.paths == written.paths
    for name in ("labels", "folds", "probabilities", "predicted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    assert found.probabilities.dtype == np.float32
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"path": str})
    assert list(table.columns) == ["path", "label", "predicted", "fold", *(f"probability_{k}" for k in range(3))]
    assert list(table["path"]) == written.paths
    np.testing.assert_array_equal(table["predicted"], written.probabilities.argmax(1))


def test_the_folds_are_joined_in_the_order_of_the_paths_with_each_row_its_own(tmp_path: Path) -> None:
    parts = [drawn(["c", "a"], 1), drawn(["d", "b"], 2)]
    found = join_folds(parts)
    assert (found.paths, found.folds.tolist()) == (["a", "b", "c", "d"], [1, 2, 1, 2])
    for part in parts:
        rows = [found.paths.index(path) for path in part.paths]
        np.testing.assert_array_equal(found.labels[rows], part.labels)
        np.testing.assert_array_equal(found.probabilities[rows], part.probabilities)
        assert np.flatnonzero(found.of_fold(part.folds[0])).tolist() == sorted(rows)


def test_an_image_in_two_folds_or_other_classes_are_rejected() -> None:
    with pytest.raises(DataError, match=r"1 images are in two folds .*b.*, expected each in one"):
        join_folds([drawn(["a", "b"], 1), drawn(["b", "c"], 2)])
    with pytest.raises(DataError, match=r"different numbers of classes \(\[3, 4\]\)"):
        join_folds([drawn(["a"], 1), drawn(["b"], 2, classes=4)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path,label\na,1\n",
        "path,label,predicted,fold,probability_0,probability_1\n",
        "path,label,predicted,fold,probability_0,probability_1\na,0,0,1,0.5\n",
        "path,label,predicted,fold,probability_0,probability_1\na,2,0,1,0.5,0.5\n",
        "path,label,predicted,fold,probability_0,probability_1\na,-1,0,1,0.5,0.5\n",
        "path,label,predicted,fold,probability_0,probability_1\na,x,0,1,0.5,0.5\n",
        "path,label,predicted,fold,probability_0,probability_1\na,0,0,1,x,0.5\n",
        "path,label,predicted,fold,probability_0,probability_1\na,0,0,1,nan,0.5\n",
        "path,label,predicted,fold\na,0,0,1\n",
        "\x00\xff",
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "oof.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"oof\.csv cannot be read as out-of-fold predictions \(.+\); run cross-valid"):
        OutOfFold.read(tmp_path / "oof.csv")
