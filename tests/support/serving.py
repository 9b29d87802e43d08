"""A small model, images, and the server in this process or in its own, for the tests of the server."""

import asyncio
import contextlib
import csv
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import nn

from augmentation import BaseAugmentation
from data.images import Preparation
from description import Description
from labels import MASKED_FACES, LabelScheme
from model_files import publish
from server.app import Ready, Service
from server.settings import ServeConfig
from support.preloaded import Preloaded
from support.processes import Process

ROOT = Path(__file__).parents[2]
SIZE = (32, 24)


def publish_model(
    folder: Path,
    scheme: LabelScheme = MASKED_FACES,
    seed: int = 3,
    preparation: Preparation | None = None,
    **fitted: Any,
) -> Path:
    """Publish a tiny untrained model that predicts different classes for different images; return the folder.

    `fitted` are fields of its description, such as `calibration`.
    """
    torch.manual_seed(seed)
    description = Description("TinyModel", "joint", scheme, preparation or Preparation(SIZE), **fitted)
    model = description.build().eval()
    augmentation = BaseAugmentation.of(description.preparation)
    pixels = np.stack([augmentation.prepare(encoded_image(seed)) for seed in range(20)])
    with torch.no_grad():
        logits = model(augmentation.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        scale = 2 / logits.std(0)
        head = model.get_submodule("fc")
        assert isinstance(head, nn.Linear)
        head.weight *= scale.unsqueeze(1)
        head.bias.copy_((head.bias - logits.mean(0)) * scale)
    publish(folder, model.state_dict(), description)
    return folder


def encoded_image(seed: int, kind: str = "JPEG", size: tuple[int, int] = (48, 64), **options: Any) -> bytes:
    """Return an image file of a given kind and size (width, height), with coarse random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


class HttpResponse:
    """A response, with the names of its headers in lower case."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Return the code of an error, which must be the documented JSON with a message."""
        assert self.headers["content-type"] == "application/json"
        record = self.json()
        assert record.keys() == {"error", "prediction"}
        assert record["prediction"] is None
        assert record["error"].keys() == {"code", "message"}
        assert len(record["error"]["message"].split()) > 3
        assert "Traceback" not in record["error"]["message"]
        code: str = record["error"]["code"]
        return code


def csv_row(response: HttpResponse) -> list[str]:
    """Return the cells of a response that is one line of csv."""
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.reader(io.StringIO(response.text))
    return row


def chunks(size: int, sent: list[int]) -> Iterator[bytes]:
    """Yield a body without a length; `sent` records how much of it was read."""
    for _ in range(size >> 16):
        sent.append(1 << 16)
        yield bytes(1 << 16)


class InProcess:
    """The service in this process, in an event loop of its own; calls may come from many threads."""

    def __init__(self, config: ServeConfig) -> None:
        self.service = Service(config)
        self.app = self.service.app()
        self.logged: list[Exception] = []  # errors that uvicorn would log with a traceback
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._lifespan = self.app.router.lifespan_context(self.app)
        self.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._lifespan.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def until_ready(self) -> Self:
        while self.service.ready is None:
            assert self.service.failure is None, self.service.failure
            time.sleep(0.01)
        return self

    @property
    def ready(self) -> Ready:
        assert self.service.ready
        return self.service.ready

    def call(self, method: str, path: str, body: Any = b"", **headers: str) -> HttpResponse:
        """Send one request; `content_type` is the header Content-Type. In a body of parts, None is a disconnect."""
        sent = [(name.replace("_", "-").encode(), text.encode("latin-1")) for name, text in headers.items()]
        if isinstance(body, bytes):
            sent.append((b"content-length", str(len(body)).encode()))
        response: HttpResponse = self.run(self.exchange(method, path, body, sent))
        return response

    def get(self, path: str) -> HttpResponse:
        return self.call("GET", path)

    def post(self, body: Any, **headers: str) -> HttpResponse:
        return self.call("POST", "/invocations", body, **headers)

    async def exchange(self, method: str, path: str, body: Any, headers: list[tuple[bytes, bytes]]) -> HttpResponse:
        """Send one request as an ASGI server does."""
        parts = iter([body]) if isinstance(body, bytes) else body
        sent: list[Any] = []
        scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""},
            **{"method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers},
            **{"server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1)},
        }

        async def receive() -> Any:
            part = next(parts, b"")
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": part is not body and part != b""}

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.logged.append(error)
        named = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return HttpResponse(sent[0]["status"], named, b"".join(message["body"] for message in sent[1:]))


class Held:
    """A model whose calls wait until the gate opens."""

    def __init__(self, server: InProcess) -> None:
        self.batcher = server.ready.batcher
        self.predict: Callable[[Any], Any] = self.batcher.predict
        self.batcher.predict = self
        self.gate = threading.Event()

    def __call__(self, pixels: Any) -> Any:
        assert self.gate.wait(20)
        return self.predict(pixels)

    def until_waiting(self, count: int) -> None:
        while self.batcher.waiting < count:
            time.sleep(0.005)


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str] | Preloaded, port: int) -> None:
        self.process, self.port = process, port

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """Send one request on its own connection."""
        # Long, because the processes that decode costly images are nice and get little CPU of a busy machine.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return HttpResponse(
                response.status, {name.lower(): text for name, text in response.getheaders()}, response.read()
            )

    def get(self, path: str) -> HttpResponse:
        return self.call("GET", path)

    def post(self, body: Any, **headers: str) -> HttpResponse:
        return self.call("POST", "/invocations", body, **headers)

    def until_ready(self) -> Self:
        ends = time.monotonic() + 60
        while self.get("/ping").status != 200:
            assert time.monotonic() < ends
            time.sleep(0.02)
        return self

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit code and what was printed since the start."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=30)
        return self.process.wait(), output


def server_command(model_dir: Path, **settings: object) -> dict[str, Any]:
    """Return the arguments for subprocess: serve.py on a free port, with settings such as SAGEMAKER_BATCH="true"."""
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


def _started(command: dict[str, Any], *, is_new: bool) -> subprocess.Popen[str] | Preloaded:
    if not is_new:
        return Preloaded(**command)
    return Process(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def running(
    model_dir: Path,
    *,
    ready: bool = True,
    command: dict[str, Any] | None = None,
    is_new: bool = False,
    **settings: object,
) -> Iterator[Running]:
    """Start the server and yield it once it is ready (or once it listens); stop it after the block.

    It is a fork that has imported torch already, which saves time, unless `is_new`: then it is a new process of Python.
    """
    with _started(command or server_command(model_dir, **settings), is_new=is_new) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("listening: "), line + process.stdout.read()
            server = Running(process, int(line.rsplit(":", 1)[1]))
            yield server.until_ready() if ready else server
        finally:
            process.kill()
