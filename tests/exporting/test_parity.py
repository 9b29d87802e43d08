"""Engines are compared with torch at batches of 1, 2 and 33, and every difference counts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from data.images import Pixels
from exporting.parity import check_parity, largest_differences
from runtime.errors import ModelError

IMAGES = np.arange(10 * 4 * 4 * 3, dtype=np.uint8).reshape(10, 4, 4, 3)


def zeros(pixels: Pixels) -> NDArray[np.float32]:
    return np.zeros((len(pixels), 2), np.float32)


def test_equal_probabilities_pass() -> None:
    found = largest_differences(zeros, zeros, IMAGES)
    assert found == {1: 0, 2: 0, 33: 0}
    check_parity(found)


@pytest.mark.parametrize("wrong", [1, 2, 33])
def test_one_wrong_number_at_one_size_is_found(wrong: int) -> None:
    def engine(pixels: Pixels) -> NDArray[np.float32]:
        found = zeros(pixels)
        found[-1, 1] = 2e-5 if len(pixels) == wrong else 0
        return found

    found = largest_differences(zeros, engine, IMAGES)
    assert {size for size, difference in found.items() if difference} == {wrong}
    with pytest.raises(ModelError, match=rf"2\.0e-05 at batch {wrong}\b.*at most 1e-05"):
        check_parity(found)


def test_what_is_not_a_number_is_no_parity() -> None:
    found = largest_differences(zeros, lambda pixels: zeros(pixels) * np.nan, IMAGES)
    with pytest.raises(ModelError, match="nan at batch 1"):
        check_parity(found)
