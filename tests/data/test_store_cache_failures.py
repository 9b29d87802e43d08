"""A folder that fails costs a warning and time: training has the same pixels, and no damaged entry is left."""

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from data.profiles import read_profiles
from data.samples import Samples
from support.store_caches import fresh, is_warm, job


@pytest.fixture
def samples(faces: Callable[..., Path]) -> Samples:
    return read_profiles(faces(people=6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_full_disk_is_a_warning_and_leaves_no_file(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = job(folder, samples)
    assert "warning: cannot write to the store cache (No space left on device): " in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))
    assert list(folder.iterdir()) == []


def test_a_folder_without_permission_is_a_warning(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, mkdir = Path.read_text, Path.mkdir

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if folder in (path, *path.parents):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return (mkdir if "exist_ok" in named else read)(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert np.array_equal(job(folder, samples).pixels, fresh(samples))
    assert "warning: cannot write to the store cache (Permission denied)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_created_is_a_warning(
    tmp_path: Path, samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    store = job(tmp_path / "file" / "store", samples)
    assert "warning: cannot write to the store cache (Not a directory): " in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))


def test_a_temporary_file_that_another_job_removes_before_it_is_locked_is_created_again(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, first_time = fcntl.flock, [True]

    def removed_first(file: IO[bytes], operation: int) -> None:
        if operation == fcntl.LOCK_EX and first_time:
            first_time.clear()
            Path(file.name).unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    job(folder, samples)
    assert is_warm(folder, samples)
    assert not first_time


def test_an_error_while_committing_is_a_warning_and_the_run_continues(
    folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    store = job(folder, samples)
    assert "warning: cannot write to the store cache (Input/output error)" in capsys.readouterr().err
    assert np.array_equal(store.pixels, fresh(samples))
    assert list(folder.iterdir()) == []


def test_a_read_only_folder_can_be_read(folder: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    job(folder, samples)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert is_warm(folder, samples)
    assert json.loads(next(folder.glob("*.json")).read_text())["bad"] == {}
