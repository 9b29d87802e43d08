"""A client that does not read its responses times out as well; test_connections.py has the other slow clients."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from starlette.responses import Response

from server.http_timeouts import TimeoutProtocol

RECEIVE_SECONDS = 0.3


@pytest.fixture
def server() -> Iterator[uvicorn.Server]:
    """Run uvicorn in a thread, with a small send buffer, so that unread responses soon fill it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        protocol = cast(type[asyncio.Protocol], partial(TimeoutProtocol, RECEIVE_SECONDS))
        config = uvicorn.Config(_respond, http=protocol, ws="none", loop="uvloop", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server
        server.should_exit = True
        thread.join()


async def _respond(scope: Any, receive: Any, send: Any) -> None:
    await Response(b"x" * 1000)(scope, receive, send)


def connect(server: uvicorn.Server) -> socket.socket:
    (listener,) = server.servers[0].sockets
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(listener.getsockname())
    return client


def is_any_paused(server: uvicorn.Server) -> bool:
    """Return whether a connection has stopped writing because its client does not read."""
    connections = [each for each in set(server.server_state.connections) if isinstance(each, TimeoutProtocol)]
    return any(connection.flow.write_paused for connection in connections)


def test_a_client_that_does_not_read_its_responses_is_disconnected(
    server: uvicorn.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        while not is_any_paused(server):
            time.sleep(0.01)
        paused = time.monotonic()
        while server.server_state.connections or server.server_state.tasks:
            assert time.monotonic() - paused < 10
            time.sleep(0.01)
        assert time.monotonic() - paused > RECEIVE_SECONDS / 2
    assert caplog.records == []


def test_a_client_that_reads_slowly_gets_all_its_responses(server: uvicorn.Server) -> None:
    asked, got, started = 2000, b"", time.monotonic()
    with connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
        while got.count(b"HTTP/1.1 200 OK") < asked:
            part = client.recv(4096)
            assert part, "cut off"
            got += part
            time.sleep(0.002)
    assert time.monotonic() - started > 3 * RECEIVE_SECONDS
