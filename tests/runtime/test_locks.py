"""A folder belongs to one process at a time, and the kernel gives the lock back."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import locks
from runtime.errors import DataError
from runtime.locks import locked
from support.processes import Process

HOLD = """
import sys, pathlib
from runtime.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock during the block, in a process that is killed at its end."""
    environ = {**os.environ, "PYTHONPATH": str(Path(locks.__file__).parents[1])}
    line = [sys.executable, "-c", HOLD, str(folder)]
    with Process(line, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        yield
        holder.kill()


def test_a_second_process_is_told_so_and_a_killed_one_gives_the_lock_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    expected = rf"another job has been writing .* 0\.2 seconds; .*: {folder}$"
    with held(folder), pytest.raises(DataError, match=expected), locked(tmp_path / "free", folder, wait_seconds=0.2):
        pytest.fail("the lock is held")
    with locked(tmp_path / "free", folder, wait_seconds=0):
        assert list(folder.iterdir()) == [], "the lock leaves no file"


def test_one_folder_with_two_names_is_locked_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with locked(tmp_path, tmp_path / "link", tmp_path / ".", wait_seconds=0):
        pass


def test_a_file_system_without_locks_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path, wait_seconds=0):
        pass
