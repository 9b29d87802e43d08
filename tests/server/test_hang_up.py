"""A client that hangs up takes its work with it; one that only ends its sending side gets its response."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

from server.app import Service
from server.http_timeouts import TimeoutProtocol
from server.settings import ServeConfig
from support.processes import wait_until
from support.raw_client import GOOD, parse_responses, request


class Listening:
    """The service behind uvicorn, in a thread; decoding waits for the gate, a pipe, and is counted in a file."""

    def __init__(self, config: ServeConfig, listener: socket.socket, folder: Path) -> None:
        self.service = Service(config)
        protocol = cast(type[asyncio.Protocol], partial(TimeoutProtocol, 10.0))
        self.uvicorn = uvicorn.Server(
            uvicorn.Config(self.service.app(), http=protocol, ws="none", loop="uvloop", log_level="error")
        )
        self.address = listener.getsockname()
        self.thread = threading.Thread(target=self.uvicorn.run, args=([listener],))
        self.gate, self._log, self._opened = folder / "gate", folder / "log", -1
        os.mkfifo(self.gate)
        self._log.touch()
        self.thread.start()
        while self.service.ready is None:
            assert self.service.failure is None
            time.sleep(0.01)

    @property
    def prepared(self) -> int:
        return self._log.stat().st_size

    def open_gate(self) -> None:
        self._opened = self._opened if self._opened >= 0 else os.open(self.gate, os.O_RDWR)

    def stop(self) -> None:
        self.open_gate()
        self.uvicorn.should_exit = True
        self.thread.join()
        os.close(self._opened)

    def connect(self, data: bytes) -> socket.socket:
        client = socket.create_connection(self.address, timeout=20)
        client.sendall(data)
        return client

    def until_waiting(self, count: int) -> None:
        assert self.service.ready
        ends = time.monotonic() + 20
        while self.service.ready.batcher.waiting != count:
            assert time.monotonic() < ends
            time.sleep(0.005)


@pytest.fixture
def listening(config: ServeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    monkeypatch.setattr("server.app.DECODER", "support.hostile_decoders:decode_behind_gate")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Listening(config, listener, tmp_path)
        yield server
        server.stop()


@pytest.mark.parametrize("is_reset", [True, False])
def test_images_of_clients_that_hang_up_are_neither_decoded_nor_computed(listening: Listening, is_reset: bool) -> None:
    assert listening.service.ready
    threads = listening.service.ready.classifier.cpus
    clients = [listening.connect(request()) for _ in range(threads + 20)]
    listening.until_waiting(threads + 20)
    wait_until(lambda: listening.prepared == threads)
    for client in clients:
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    listening.until_waiting(0)
    assert listening.service.bodies.buffered == 0
    listening.open_gate()
    with listening.connect(request(GOOD, "Connection: close")) as client:
        assert received(client) == [200]
    assert listening.prepared == threads + 1
    assert listening.service.ready.batcher.images == 1


def test_a_client_that_has_finished_sending_gets_its_response(listening: Listening) -> None:
    with listening.connect(request() + request()) as client:
        client.shutdown(socket.SHUT_WR)
        listening.until_waiting(1)
        time.sleep(0.5)
        listening.open_gate()
        assert received(client) == [200, 200]


def received(client: socket.socket) -> list[int]:
    data: Any = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            data += part
    return [response.status for response in parse_responses(data)]
