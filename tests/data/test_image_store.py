"""The store has each image at its index, in memory or in a file, and a bad image never goes unnoticed."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data import image_store as module
from data.image_store import ImageStore, apply_bad_image_policy
from data.images import Preparation, prepare
from data.profiles import read_profiles
from runtime.errors import DataError, ImageError

PREPARATION = Preparation((32, 24), (50, 40))


@pytest.fixture
def paths(faces: Callable[..., Path]) -> list[Path]:
    return read_profiles(faces(people=6)).paths


def filled(paths: list[Path], processes: int = 2, memory_share: float = 0.5) -> ImageStore:
    store = ImageStore(paths, PREPARATION, processes=processes, memory_share=memory_share)
    store.wait()
    return store


def test_every_index_holds_its_own_file(paths: list[Path]) -> None:
    store = filled(paths)
    assert store.pixels.shape == (42, 32, 24, 3)
    assert store.pixels.dtype == np.uint8
    for pixels, path in zip(store.pixels, paths, strict=True):
        assert np.array_equal(pixels, prepare(path, PREPARATION))


def test_memory_and_temporary_file_have_the_same_pixels(paths: list[Path]) -> None:
    memory, file = filled(paths), filled(paths, memory_share=0.0)
    assert not isinstance(memory.pixels, np.memmap)
    assert isinstance(file.pixels, np.memmap)
    assert np.array_equal(memory.pixels, file.pixels)


def test_a_store_above_the_memory_budget_becomes_a_file(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    size = 42 * 32 * 24 * 3
    for free, in_file in ((2 * size, False), (2 * size - 1, True)):
        monkeypatch.setattr(module, "free_memory_bytes", lambda free=free: free)
        assert isinstance(ImageStore(paths, PREPARATION, memory_share=0.5).pixels, np.memmap) is in_file


def test_the_temporary_file_has_no_name_and_lies_in_tmpdir(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    store = ImageStore(paths, PREPARATION, memory_share=0.0)
    assert list(folder.iterdir()) == []
    assert store.pixels.shape == (42, 32, 24, 3)
    assert str(folder) in Path("/proc/self/maps").read_text()


def test_a_full_disk_is_an_error_before_the_first_image_is_read(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"^no room for 96768 bytes of decoded images \(No space left on device\); "):
        ImageStore(paths, PREPARATION, memory_share=0.0)


def test_under_error_a_bad_image_anywhere_is_raised_by_any_wait(paths: list[Path]) -> None:
    for index in (41, 3, 17, 20):
        paths[index].write_bytes(b"text")
    store = ImageStore(paths, PREPARATION)
    for indices in (None, np.array([3]), np.array([5])):
        with pytest.raises(DataError, match=r"^4 of 42 images cannot be used, fix them") as caught:
            store.wait(indices)
        named = [str(caught.value).find(str(paths[index])) for index in (3, 17, 20, 41)]
        assert -1 < named[0] < named[1] < named[2], "the first three, by index"
        assert named[3] == -1


def test_under_skip_bad_images_are_known_when_all_are_decoded(paths: list[Path]) -> None:
    paths[3].write_bytes(b"")
    store = ImageStore(paths, PREPARATION, on_bad_image="skip", max_bad_ratio=1 / 42)
    store.wait()
    assert list(store.bad) == [3]
    store = ImageStore(paths, PREPARATION, on_bad_image="skip", max_bad_ratio=0.02)
    with pytest.raises(DataError, match=r"1 of 42 images cannot be used, more than --max-bad-ratio 0\.02 allows"):
        store.wait()


@pytest.mark.parametrize("memory_share", [0.0, 0.5])
def test_no_process_and_no_descriptor_outlives_its_store(
    paths: list[Path], memory_share: float, new_processes: Callable[[], list[int]]
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = ImageStore(paths * 1000, PREPARATION, memory_share=memory_share)
    store.wait(np.array([3]))
    assert not store.complete
    del store
    assert new_processes() == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.gpu
def test_a_gpu_with_room_gets_all_pixels_once(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store, device = filled(paths), torch.device("cuda")
    everything, target = np.arange(len(paths)), torch.empty(store.pixels.shape, dtype=torch.uint8, device=device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    store.move_to_gpu(device)
    assert not store.resident.take(everything, target)
    monkeypatch.undo()
    store.move_to_gpu(device)
    assert store.resident.take(everything, target)
    assert np.array_equal(target.cpu().numpy(), store.pixels)


def test_a_cpu_gets_no_copy_of_the_pixels(paths: list[Path]) -> None:
    store = filled(paths)
    store.move_to_gpu(torch.device("cpu"))
    assert not store.resident.take(np.arange(3), torch.empty((3, *store.pixels.shape[1:]), dtype=torch.uint8))


def bad(count: int) -> dict[int, ImageError]:
    return {index: ImageError(f"cut off: {index}.jpg") for index in reversed(range(count))}


def test_without_bad_images_no_policy_raises() -> None:
    apply_bad_image_policy({}, 100, "error", 0.0)
    apply_bad_image_policy({}, 100, "skip", 0.0)


def test_the_error_policy_names_the_first_three_and_counts_the_rest() -> None:
    with pytest.raises(DataError) as caught:
        apply_bad_image_policy(bad(5), 100, "error", 1.0)
    assert str(caught.value) == (
        "5 of 100 images cannot be used, fix them or pass --on-bad-image skip: "
        "cut off: 0.jpg; cut off: 1.jpg; cut off: 2.jpg; and 2 more"
    )


@pytest.mark.parametrize(("count", "total", "ratio"), [(1, 100, 0.01), (29, 100, 0.29), (7, 100, 0.07), (3, 3, 1.0)])
def test_skip_allows_bad_images_up_to_the_ratio(count: int, total: int, ratio: float) -> None:
    apply_bad_image_policy(bad(count), total, "skip", ratio)
    with pytest.raises(DataError, match=re.escape(f"{count + 1} of {total} images cannot be used, more than")):
        apply_bad_image_policy(bad(count + 1), total, "skip", ratio)
