"""The images of every test of training."""

import pytest

from support.trainers import CPU, PLAIN, Faces
from training.inputs import Data, read_data


@pytest.fixture
def data(faces: Faces) -> Data:
    return read_data(faces(6), PLAIN, CPU)
