"""Locks on folders that belong to one process at a time. No torch."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import DataError
from runtime.files import make_folder

WAIT_SECONDS = 10.0  # a killed job may take some seconds to end


@contextlib.contextmanager
def locked(*folders: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock on each folder, which is created if it is missing; raise DataError if another process has one.

    The lock is on the folder itself (flock), so no file is left, and the kernel gives it back however the process ends.
    A file system without locks is used without them.
    """
    deadline, held = time.monotonic() + wait_seconds, set()
    with contextlib.ExitStack() as stack:
        for folder in folders:
            make_folder(folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) not in held:  # two names of one folder would wait for each other
                held.add((status.st_dev, status.st_ino))
                _lock(descriptor, folder, deadline, wait_seconds)
        yield


def _lock(descriptor: int, folder: Path, deadline: float, wait_seconds: float) -> None:
    """Lock an opened folder, and wait until the deadline if another process has it."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DataError(
                    f"another job has been writing to this folder for {wait_seconds:g} seconds; wait until it ends, or "
                    f"choose another folder: {folder}"
                ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL):
                raise
            return
        time.sleep(0.1)
