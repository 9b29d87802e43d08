"""Standard streams that a command does not depend on: closed, without a reader, or in a small encoding. No torch."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

_NO_READER = (errno.EPIPE, errno.EIO)  # a pipe that was closed, a terminal that is gone


def open_closed_streams() -> None:
    """Open /dev/null in place of each standard stream that is closed, as after `>&-`; call this first of all.

    Python has None for such a stream, and the next file or socket that is opened would get its number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def escape_unprintable() -> None:
    """Print characters that the encoding of stdout lacks as escapes, such as `\\xe9`, as Python does on stderr.

    A name of a file may have them, also in UTF-8 if it is none. A stream that was replaced is left as it is.
    """
    stream = sys.stdout
    if stream is sys.__stdout__ and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def outlive_readers(*names: str) -> None:
    """Discard what is printed to the named streams after their reader has left, as in `train.py | head -1`.

    The work continues: its result is a file. Streams that were replaced, such as by a test, are left as they are.
    """
    for name in names:
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _outliving(stream))


@contextlib.contextmanager
def discarding_stdout() -> Iterator[None]:
    """Discard what any code of this process writes to file descriptor 1 meanwhile, libraries in C++ included.

    Other threads should print nothing meanwhile: their lines are lost, too. stderr is left alone.
    """
    sys.stdout.flush()
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that writes to the same file as another one, in the same way."""
    raw = _Outliving(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # unbuffered as Python's own with -u
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Outliving(io.FileIO):
    """A file that becomes /dev/null when nobody can read it any more."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NO_READER:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
