"""The copy of the pixels on a GPU: made if there is room, the same bits, and given back once and for all.

The copy is made on the CPU here; tests/gpu and the tests marked gpu make it on a device.
"""

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from data import resident_pixels as module
from data.resident_pixels import ResidentPixels

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 4, 3, 3), dtype=np.uint8)
INDICES = np.array([3, 29, 3, 0])


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device have exactly the memory of which the pixels may take 40 percent."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (PIXELS.nbytes * 5 // 2, 0))


def filled() -> ResidentPixels:
    resident = ResidentPixels()
    resident.fill(PIXELS, CPU)
    return resident


def taken_from(resident: ResidentPixels) -> NDArray[np.uint8] | None:
    target = torch.empty((len(INDICES), *PIXELS.shape[1:]), dtype=torch.uint8)
    return target.numpy() if resident.take(INDICES, target) else None


def test_images_are_those_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 7)
    taken = taken_from(filled())
    assert taken is not None
    assert np.array_equal(taken, PIXELS[INDICES])


def test_without_room_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (PIXELS.nbytes * 5 // 2 - 1, 0))
    resident = filled()
    assert taken_from(resident) is None
    assert not resident.release()


def test_memory_that_was_needed_before_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 100)
    for reserved, has_room in ((99, False), (100, True)):
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device, reserved=reserved: reserved)
        assert (taken_from(filled()) is not None) == has_room


def test_what_was_given_back_does_not_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    resident = filled()
    assert [resident.release(), resident.release()] == [True, False]
    resident.fill(PIXELS, CPU)
    assert taken_from(resident) is None
    assert capsys.readouterr().err.count("gives up its copy of the images") == 1


def test_memory_that_is_free_but_in_pieces_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def full(*arguments: object, **options: object) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as limited:
        limited.setattr(torch, "empty", full)
        resident = filled()
        resident.fill(PIXELS, CPU)
    assert taken_from(resident) is None
    assert tried == [1]


def test_nothing_is_given_back_while_images_are_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = filled()
    releasing = threading.Thread(target=resident.release)

    def send(indices: Tensor, device: torch.device) -> Tensor:
        releasing.start()
        releasing.join(0.05)
        assert releasing.is_alive(), "it waits"
        return indices

    monkeypatch.setattr(module, "send", send)
    taken = taken_from(resident)
    releasing.join()
    assert taken is not None
    assert np.array_equal(taken, PIXELS[INDICES])
    assert taken_from(resident) is None
