"""What the tests of the server share: a small model, pictures, and the server as a process of its own."""

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from artifact import Description, publish
from images import Preparation
from labels import MASKED_FACES, LabelScheme

ROOT = Path(__file__).parents[1]
SIZE = (32, 24)


def publish_model(folder: Path, scheme: LabelScheme = MASKED_FACES, seed: int = 3, **settings: Any) -> Path:
    """A tiny untrained model, whose answers differ from picture to picture."""
    torch.manual_seed(seed)
    description = Description("TinyModel", "joint", scheme, Preparation(SIZE), **settings)
    state = description.build().state_dict()
    state["fc.weight"] *= 20
    publish(folder, state, description)
    return folder


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (48, 64), **options: Any) -> bytes:
    """A file of a given kind: coarse random colours, (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


class Reply:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request on a connection of its own; `content_type` is the header Content-Type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): text for name, text in reply.getheaders()}, reply.read())

    def post(self, body: Any, **headers: str) -> Reply:
        return self.call("POST", "/invocations", body, **headers)

    def wait_until_ready(self, seconds: float = 60) -> Self:
        ends = time.monotonic() + seconds
        while self.call("GET", "/ping").status != 200:
            assert time.monotonic() < ends
            assert self.process.poll() is None
            time.sleep(0.02)
        return self

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self, seconds: float = 30) -> tuple[int, str]:
        """SIGTERM; returns the exit code and what was printed since the start."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, said


def server_command(model_dir: Path, **settings: object) -> dict[str, Any]:
    """Arguments for subprocess: serve.py on a free port, with settings such as SAGEMAKER_BATCH="true"."""
    environ = {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "SERVE_HOST": "127.0.0.1",
        "SERVE_DEVICE": "cpu",
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SM_MODEL_DIR": str(model_dir),
        "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}",
        **{name: str(value) for name, value in settings.items()},
    }
    return {"args": [sys.executable, "-W", "error", str(ROOT / "container" / "serve.py")], "env": environ}


@contextlib.contextmanager
def running(model_dir: Path, *, ready: bool = True, **settings: object) -> Iterator[Running]:
    """The server, once it listens, and once it is ready too unless asked otherwise; gone with the block."""
    command = server_command(model_dir, **settings)
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("listening: "), line + process.stdout.read()
            server = Running(process, int(line.rsplit(":", 1)[1]))
            yield server.wait_until_ready() if ready else server
        finally:
            process.kill()
