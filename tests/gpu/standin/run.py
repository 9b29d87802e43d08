"""Commands on the stand-in for a GPU, and what they did with it.

    done = run_on_standin([sys.executable, "code/train.py", ...], capability=75, memory_mb=900)
    assert done.returncode == 0, done.stderr
    assert done.counters["cudaMalloc"] < 100

Inside such a command `counters_now()` returns the counters so far, so that a step can be measured. The README beside
this file lists the settings and the counters.
"""

import atexit
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from gpu.standin.build import build_standin

ROOT = Path(__file__).parents[3]
_RECORD = struct.Struct("QQ240s")  # counters.c has the same layout


class Settings(TypedDict, total=False):
    """What kind of GPU the stand-in is; the README explains each, and what holds for those that are left out."""

    capability: int
    memory_mb: int
    workspace_mb: int
    processors: int
    devices: int
    driver: int
    count_error: int
    malloc_error: int


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code, its output, and how often it called what."""

    returncode: int
    stdout: str
    stderr: str
    counters: Counter[str]


@functools.cache
def standin_library() -> Path:
    """Return the stand-in for this process, compiled by its first caller."""
    folder = Path(tempfile.mkdtemp(prefix="standin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_standin(folder)


def standin_environ(counters: Path, **settings: Unpack[Settings]) -> dict[str, str]:
    """Return the environment variables with which a command runs on the stand-in and counts in the file `counters`."""
    library = standin_library()
    return {
        "LD_PRELOAD": str(library),
        "LD_LIBRARY_PATH": str(library.parent),
        "STANDIN_COUNTERS": str(counters),
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("code", "container", "tests")),
        **{f"STANDIN_{name.upper()}": str(value) for name, value in settings.items()},
    }


def run_on_standin(
    argv: Sequence[str | Path],
    environ: Mapping[str, str] | None = None,
    timeout: float = 300,
    **settings: Unpack[Settings],
) -> Done:
    """Run a command to its end on the stand-in, with more environment variables if given.

    Raises subprocess.TimeoutExpired after `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="standin-counters-") as folder:
        counters = Path(folder) / "counters"
        full = os.environ | standin_environ(counters, **settings) | dict(environ or {})
        done = subprocess.run(argv, cwd=ROOT, env=full, timeout=timeout, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr, read_counters(counters))


def read_counters(path: Path) -> Counter[str]:
    """Return the counters in a file that a process on the stand-in writes to, running or not."""
    if not path.exists():
        return Counter()
    records = _RECORD.iter_unpack(path.read_bytes())
    return Counter({name.split(b"\0")[0].decode(): count for key, count, name in records if key})


def counters_now() -> Counter[str]:
    """Return the counters of this process, which runs on the stand-in."""
    return read_counters(Path(os.environ["STANDIN_COUNTERS"]))
