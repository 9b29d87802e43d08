"""A client that sends any bytes to the server, valid HTTP or not."""

import contextlib
import re
import socket
import time

from support.serving import HttpResponse, Running, encoded_image

GOOD = encoded_image(1)


class Client:
    """A connection that sends any bytes."""

    def __init__(self, server: Running, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.started = time.monotonic()
        self.send(data)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> HttpResponse:
        """Return the next response."""
        data = b""
        while True:
            data += self.socket.recv(1 << 16)
            head, end, body = data.partition(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", head)
            if end and size and len(body) == int(size[1]):
                return parse_responses(data)[0]

    def responses(self) -> list[HttpResponse]:
        """Return all responses until the server closes the connection."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(1 << 16):
                data += part
        return parse_responses(data)


def parse_responses(data: bytes) -> list[HttpResponse]:
    """Return the responses without the interim ones, which a client skips."""
    responses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        if status == "HTTP/1.1 100 Continue":
            continue
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers.get("content-length", 0))
        responses.append(HttpResponse(int(status.split()[1]), headers, data[:size]))
        data = data[size:]
    return responses


def request(body: bytes = GOOD, *lines: str, length: int | None = None) -> bytes:
    """Return the bytes of a POST."""
    head = ["POST /invocations HTTP/1.1", "Host: here", *lines]
    if not any(line.startswith("Transfer-Encoding") for line in lines):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


CLOSE = "Connection: close"
PING = b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n"
