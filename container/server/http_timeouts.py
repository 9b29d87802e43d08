"""What uvicorn leaves open: how long a request may take to arrive, and how much may come around its body.

uvicorn's timeouts start anew with every byte, so one byte a second holds a connection for good. Here a request that has
not arrived whole some seconds after it began, whether it is still being read or already answered, ends with its
connection; so does a client that does not take its answers. Headers, chunk sizes and trailers are bounded too. And a
request that asks for another protocol must not have a body, which the parser would take for the next request.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.responses import error_body

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 64 << 10  # headers, trailers and the like of one request
MAX_FRAMING = 6  # wire bytes for one byte of body: chunks of a single byte need as many


class DeadlineProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection on which every request has `receive_seconds` to arrive."""

    def __init__(self, receive_seconds: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.receive_seconds = receive_seconds
        self._receive_clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None
        self._head_is_read = False  # of the request that is arriving
        self._is_refused = False  # the request that is arriving
        self._wire_bytes = self._body_bytes = 0
        self._answering: RequestResponseCycle | None = None  # of pipelined requests, the one whose turn it is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self.resume_writing()
        self._disconnect()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it has to say still gets the answer that is being made; uvicorn would hang up."""
        if not self._is_answering():
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._start_clock()
        self._wire_bytes += len(data)
        super().data_received(data)
        if self._wire_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes:
            self._refuse(431, "headers_too_large", f"the request has more than {MAX_HEAD_BYTES} bytes of headers")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_clock()
        self._head_is_read = False
        self._wire_bytes, self._body_bytes = 1, 0

    def on_headers_complete(self) -> None:
        self._is_refused = self.parser.should_upgrade() and self._announces_body()
        if self._is_refused:
            self._refuse(400, "upgrade_not_offered", "the request asks for another protocol, expected plain HTTP/1.1")
            return
        super().on_headers_complete()
        self._head_is_read = True
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _announces_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: it is any client's to ask."""

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._wire_bytes = self._body_bytes = 0
        if not self._is_refused:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_clock = self.loop.call_later(self.receive_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "bad_request", "the request is not HTTP/1.1")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _is_answering(self) -> bool:
        """Whether the newest request has come whole and has no answer yet."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _disconnect(self) -> None:
        """Tell the request that is being answered; uvicorn tells the newest only, and then writes to what is closed."""
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _start_clock(self) -> None:
        if self._receive_clock is None:
            self._receive_clock = self.loop.call_later(self.receive_seconds, self._expire)

    def _stop_clock(self) -> None:
        if self._receive_clock is not None:
            self._receive_clock.cancel()
            self._receive_clock = None

    def _expire(self) -> None:
        self._receive_clock = None
        self._refuse(408, "too_slow", f"the request did not arrive within {self.receive_seconds:g} seconds")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Close the connection, with a reply if the request that is arriving still waits for one."""
        if self.transport.is_closing():
            return
        if self._is_answering() and not self.pipeline:
            self.cycle.keep_alive = False  # the request before this one gets its answer, and closes then
            self.flow.pause_reading()
            return
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        unanswered = is_open and not cycle.response_started if self._head_is_read else self._wire_bytes > 0
        if unanswered and not self.pipeline:
            self.transport.write(_reply(status, error_body(code, message)))
        if cycle is not None:  # what the application still sends must not meet a transport that is closed
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _reply(status: int, body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
