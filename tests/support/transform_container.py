"""A transform, and a container of another make that it may use."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from support.preloaded import Preloaded
from support.serving import ROOT
from transform import TransformConfig


class Container:
    """A container of another make: it predicts the size of an image as its class and records the requests."""

    def __init__(self) -> None:
        self.proposal: dict[str, Any] | None = {"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 6}
        self.digest = "one"
        self.status = 200  # of responses with a body that are not failures
        self.headers: dict[str, str] = {}  # of responses with a body
        self.sizes: Counter[int] = Counter()  # how often a body of this size was posted
        self.types: set[tuple[str | None, ...]] = set()
        self.statuses: dict[int, list[int]] = {}  # by size, statuses before the 200
        self.in_flight = self.most_in_flight = 0
        self.predict: Callable[[int], dict[str, Any]] = lambda size: {"prediction": size}
        self.on_post: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Container":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def posted(self, handler: BaseHTTPRequestHandler) -> tuple[int, object]:
        size = len(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.sizes[size] += 1
            self.types.add((handler.headers["Content-Type"], handler.headers["Accept"]))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.on_post()
        with self._lock:
            self.in_flight -= 1
            status = self.statuses[size].pop(0) if self.statuses.get(size) else 200
        return status, self.predict(size) if status == 200 else {"error": {"code": "x", "message": "no, because"}}

    def _handler(container) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path == "/ping" or container.proposal is not None
                self.response(200 if known else 404, container.proposal if self.path != "/ping" else None)

            def do_POST(self) -> None:
                self.response(*container.posted(self))

            def response(self, status: int, record: object) -> None:
                body = json.dumps(record).encode() if record else b""
                self.send_response(container.status if body and status == 200 else status)
                headers = {"Content-Length": str(len(body)), **(container.headers if body else {})}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("X-Model-Digest", container.digest)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


def outs(config: TransformConfig) -> dict[str, bytes]:
    folder = config.output_dir / "transform"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.out")}


def forked_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a transform in this process start its own server as a fork that has imported torch already."""

    def popen(args: list[str], *, env: Mapping[str, str], **how: object) -> Preloaded:
        assert how["stdout"] == subprocess.PIPE
        return Preloaded(args, env, stderr=2)

    monkeypatch.setattr("batch.local_server.subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE))


def command(config: TransformConfig) -> dict[str, Any]:
    """Return the arguments for subprocess that run the same transform."""
    environ = os.environ | {
        "SM_CHANNEL_EVAL": str(config.data_dir),
        "SM_CHANNEL_MODEL": str(config.model_dir),
        "SM_OUTPUT_DATA_DIR": str(config.output_dir),
        "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}",
    }
    flags = ["--url", config.url] if config.url else []
    return {"args": [sys.executable, "-W", "error", ROOT / "container" / "transform.py", *flags], "env": environ}
