"""A server on loopback that publishes weights: files as torchvision's, and repositories as Hugging Face's."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class WeightsServer(ThreadingHTTPServer):
    """Files by path, and what happened: `requests` are the methods and paths, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}  # that Hugging Face tells, where it is not that of the file
        self.requests: list[str] = []
        self.breaks_off = False  # after half of each file

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: WeightsServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.server.files.get(self.path.partition("?")[0], b""))

    def _answer(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        data = self.server.files.get(path)
        self.send_response(404 if data is None else 200)
        if data is None:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{self.server.digests.get(path, hashlib.sha256(data).hexdigest())}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.server.breaks_off:
            self.close_connection = True
        self.wfile.write(body[: len(body) // 2] if self.server.breaks_off else body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def serving_weights() -> Iterator[WeightsServer]:
    """Serve until the end of the `with` block."""
    with WeightsServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
