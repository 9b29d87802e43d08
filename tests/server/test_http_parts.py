"""A connection parses small parts: it holds little, delays nobody, and every request gets the response it would get."""

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import uvicorn

from server import http_parts
from server.http_timeouts import TimeoutProtocol

GATE = threading.Event()


@pytest.fixture
def server() -> Iterator[uvicorn.Server]:
    """Run uvicorn in a thread; responses wait for the gate."""
    GATE.set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        protocol = cast(type[asyncio.Protocol], partial(TimeoutProtocol, 10.0))
        config = uvicorn.Config(respond, http=protocol, ws="none", loop="uvloop", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server
        GATE.set()
        server.should_exit = True
        thread.join()


async def respond(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the digest of the body."""
    digest, is_more = hashlib.md5(), True  # noqa: S324
    while is_more:
        message = await receive()
        digest.update(message.get("body", b""))
        is_more = message.get("more_body", False)
    while not GATE.is_set():
        await asyncio.sleep(0.005)
    text = digest.hexdigest().encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"32")]})
    await send({"type": "http.response.body", "body": text})


def connect(server: uvicorn.Server) -> socket.socket:
    (listener,) = server.servers[0].sockets
    return socket.create_connection(listener.getsockname(), timeout=20)


def only_connection(server: uvicorn.Server) -> TimeoutProtocol:
    while not server.server_state.connections:
        time.sleep(0.005)
    (connection,) = server.server_state.connections
    assert isinstance(connection, TimeoutProtocol)
    return connection


def digests(client: socket.socket, count: int) -> list[bytes]:
    """Return the bodies of the next `count` responses."""
    data = b""
    while data.count(b"\r\n\r\n") < count or len(data.rpartition(b"\r\n\r\n")[2]) < 32:
        part = client.recv(1 << 16)
        assert part, "cut off"
        data = (data + part).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return [part[:32] for part in data.split(b"\r\n\r\n")[1:]]


def test_pipelined_requests_wait_as_bytes_and_are_not_read_on(server: uvicorn.Server) -> None:
    GATE.clear()
    count = 40_000
    with connect(server) as client:
        sending = threading.Thread(target=client.sendall, args=(b"GET / HTTP/1.1\r\n\r\n" * count,))
        sending.start()
        connection = only_connection(server)
        while not connection._held:
            time.sleep(0.005)
        time.sleep(0.2)
        assert len(connection.pipeline) <= http_parts.PART_BYTES / len(b"GET / HTTP/1.1\r\n\r\n") + 1
        assert len(connection._held) <= 2 * (256 << 10)  # at most two reads of the event loop
        GATE.set()
        assert len(digests(client, count)) == count
        sending.join()


def test_a_held_request_is_not_a_slow_one(server: uvicorn.Server) -> None:
    GATE.clear()
    with connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        connection = only_connection(server)
        while not connection._held:
            time.sleep(0.005)
        assert connection._receive_timer is None
        GATE.set()
        assert len(digests(client, 1000)) == 1000


@pytest.mark.parametrize("seconds", [0.0, http_parts.PARSE_SECONDS])
def test_bodies_of_any_size_in_any_pieces_arrive_whole(
    server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(http_parts, "PARSE_SECONDS", seconds)
    random = np.random.default_rng(0)
    bodies = [random.bytes(int(size)) for size in [0, 1, 300_000, 70_000, *random.integers(0, 3000, 40)]]
    data = b""
    for number, body in enumerate(bodies):
        if number % 3 == 2:
            sizes = range(0, len(body), 1 + len(body) // 50)
            parts = [body[at : at + 1 + len(body) // 50] for at in sizes]
            chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            data += b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n"
        else:
            data += b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    expected = [hashlib.md5(body).hexdigest().encode() for body in bodies]  # noqa: S324
    for most in (len(data), 5000, 700):
        with connect(server) as client:
            sending = threading.Thread(target=send_in_pieces, args=(client, data, most))
            sending.start()
            assert digests(client, len(bodies)) == expected
            sending.join()


def send_in_pieces(client: socket.socket, data: bytes, most: int) -> None:
    for at in range(0, len(data), most):
        client.sendall(data[at : at + most])
    client.shutdown(socket.SHUT_WR)
