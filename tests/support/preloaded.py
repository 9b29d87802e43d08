"""Commands that start as forks of a process that has imported torch already, which saves two seconds of CPU each.

Only libraries are imported there; the modules of the job are imported by the command, as always. A few tests start the
same commands with a new Python, so that what happens before torch is imported is seen, too.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
LIBRARIES = ["torch", "torch.distributed.elastic.multiprocessing", "numpy", "PIL.Image", "starlette.applications"]
LIBRARIES += ["uvicorn", "uvloop"]


class Preloaded:
    """A Python command that runs in such a fork, as subprocess.Popen with its output and errors in one pipe of text."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str]) -> None:
        """`args` are the interpreter, maybe `-W error`, the path of a script, and its arguments."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=run, args=(writer, list(args), dict(env)))
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()
        self.pid = self._process.pid or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stdout.close()
        self._process.join()
        self._process.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a preloaded command", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        output = self.stdout.read()
        self.wait(timeout)
        return output, None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)


def run(output: Connection, args: Sequence[str], environ: Mapping[str, str]) -> None:
    """Become the command: the target of the process."""
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    os.environ.clear()
    os.environ.update(environ)
    _, *words = args
    if words[:2] == ["-W", "error"]:
        del words[:2]
        sys.warnoptions[:] = ["error"]
        warnings.simplefilter("error")
    sys.argv = list(words)
    folders = [str(Path(words[0]).parent), *environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = folders + [folder for folder in sys.path if not _is_of_the_job(folder)]
    runpy.run_path(words[0], run_name="__main__")


def _is_of_the_job(folder: str) -> bool:
    """Return whether a folder holds modules of the repository, not libraries: .venv may lie in it."""
    return folder.startswith(str(ROOT)) and not folder.startswith(sys.prefix)
