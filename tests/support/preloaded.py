"""Commands that start as forks of a process that has imported torch already, which saves two seconds of CPU each.

    with Preloaded([sys.executable, "-W", "error", "code/train.py"], environ) as process:
        line = process.stdout.readline()
    done = completed([sys.executable, "code/train.py", "--epochs", "many"], environ)

Only libraries are imported there; the modules of the job are imported by the command, as always. A few tests start the
same commands with a new Python, so that what happens before torch is imported is seen, too. No library may start a
thread when it is imported, as pyarrow does for pandas: it would not be there in a fork, and its locks might be held.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any, Self

from runtime.parent import end_with_parent

ROOT = Path(__file__).parents[2]
LIBRARIES = ["torch", "torch.distributed.elastic.multiprocessing", "numpy", "PIL.Image", "starlette.applications"]
LIBRARIES += ["uvicorn", "uvloop", "matplotlib.figure", "torch.utils.tensorboard"]
# What torch imports to compute shapes on the device "meta", as it does when a network is created: a second of CPU.
LIBRARIES += ["torch._dynamo", "torch.fx.experimental.symbolic_shapes"]


class Descriptor:
    """A file descriptor of this process, which a fork gets as a number of its own."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _own_number, (reduction.DupFd(self.number),)


def _own_number(copy: Any) -> Descriptor:
    return Descriptor(copy.detach())


class Preloaded:
    """A Python command that runs in such a fork, as subprocess.Popen with its output and errors in one pipe of text."""

    def __init__(
        self, args: Sequence[str], env: Mapping[str, str], *, stdout: int | None = None, stderr: int | None = None
    ) -> None:
        """`args` are the interpreter, maybe `-W error`, the path of a script, and its arguments.

        Output or errors go to a descriptor instead, if one is given.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        reader, writer = os.pipe()
        outputs = [Descriptor(writer if number is None else number) for number in (stdout, stderr)]
        self._process = context.Process(target=run, args=(outputs, list(args), dict(env)))
        self._process.start()
        os.close(writer)
        self.stdout = os.fdopen(reader)
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
        with contextlib.suppress(ProcessLookupError):  # it has ended, and the exit code is still to come
            os.kill(self.pid, number)

    def terminate(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)


def completed(args: Sequence[str], env: Mapping[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run such a command to its end, as subprocess.run with its output and its errors apart."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        with Preloaded(args, env, stdout=output.fileno(), stderr=errors.fileno()) as process:
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(args, code, output.read(), errors.read())


def run(outputs: Sequence[Descriptor], args: Sequence[str], environ: Mapping[str, str]) -> None:
    """Become the command: the target of the process."""
    end_with_parent(os.getppid())  # which ends with the process of the tests, even if that is killed
    for number, output in enumerate(outputs, 1):
        os.dup2(output.number, number)
    for output in outputs:
        os.close(output.number)
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
