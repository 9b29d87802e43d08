"""The server of this checkout, as a process that lives as long as it is needed."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from batch.client import ServerError

HERE = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


@contextlib.contextmanager
def local_server(model_dir: Path, payload_mb: int) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A batch-transform server at a free port of this machine: its address, and whether it still runs.

    It ends with the block, and with this process, however that ends.
    """
    environ = os.environ | {
        "SM_MODEL_DIR": str(model_dir),
        "SERVE_HOST": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(payload_mb or ""),
    }
    command = [sys.executable, str(HERE / "serve.py")]
    with subprocess.Popen(  # noqa: S603
        command, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=_end_with_parent
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line.startswith("listening: "):
                raise ServerError("the server did not start; what it said stands above")
            said = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, sys.stderr))
            said.start()
            try:
                yield line.removeprefix("listening: ").strip(), lambda: process.poll() is None
            finally:
                process.terminate()
                said.join()
        finally:
            process.terminate()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
