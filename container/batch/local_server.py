"""The server of this checkout, as a process that lives as long as a block of code."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from batch.client import ServerError
from runtime.parent import end_with_parent

HERE = Path(__file__).parents[1]


@contextlib.contextmanager
def local_server(model_dir: Path, payload_mb: int) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Start a batch-transform server on a free port; yield its address and a function that tells whether it runs.

    The server stops after the block, and with this process, even if that is killed.
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
        command,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line.startswith("listening: "):
                raise ServerError("the server did not start; see its output above")
            copier = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, sys.stderr))
            copier.start()
            try:
                yield line.removeprefix("listening: ").strip(), lambda: process.poll() is None
            finally:
                process.terminate()
                copier.join()
        finally:
            process.terminate()
