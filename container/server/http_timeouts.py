"""The limits that uvicorn lacks: the time for a request to arrive, and the bytes around its body.

uvicorn's timeouts start again with every byte, so a client that sends one byte a second can hold a connection forever.
Here the connection is closed if a request has not arrived completely some seconds after it began, whether it is still
read or already has a response, and also if a client does not read its responses. Headers, chunk sizes and trailers are
bounded too. And a request that asks for another protocol must not have a body, because the parser would read that as
the next request.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.responses import error_body

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 64 << 10  # headers, trailers and the like of one request
MAX_FRAMING = 6  # bytes on the wire for one byte of body, as many as chunks of a single byte need


class TimeoutProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection on which every request has `receive_seconds` to arrive."""

    def __init__(self, receive_seconds: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.receive_seconds = receive_seconds
        self._receive_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_is_read = False  # of the request that is arriving
        self._is_rejected = False  # the request that is arriving
        self._wire_bytes = self._body_bytes = 0
        self._running_cycle: RequestResponseCycle | None = None  # of pipelined requests, the one that is processed now

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        self._disconnect()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has finished sending until its response is sent; uvicorn would not."""
        if not self._is_response_pending():
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._start_timer()
        self._wire_bytes += len(data)
        super().data_received(data)
        if self._wire_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes:
            self._reject(431, "headers_too_large", f"the request headers are larger than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()
        self._head_is_read = False
        self._wire_bytes, self._body_bytes = 1, 0

    def on_headers_complete(self) -> None:
        self._is_rejected = self.parser.should_upgrade() and self._declares_body()
        if self._is_rejected:
            self._reject(400, "upgrade_not_offered", "protocol upgrades are not supported; send plain HTTP/1.1")
            return
        super().on_headers_complete()
        self._head_is_read = True
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _declares_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: every client may ask for an upgrade."""

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._wire_bytes = self._body_bytes = 0
        if not self._is_rejected:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.receive_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        self._reject(400, "bad_request", "the request is not valid HTTP/1.1")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._running_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _is_response_pending(self) -> bool:
        """Return whether the newest request has arrived completely and has no complete response yet."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _disconnect(self) -> None:
        """Tell the request that is processed now; uvicorn tells only the newest, and then writes after the close."""
        if self._running_cycle is not None:
            self._running_cycle.disconnected = True
            self._running_cycle.message_event.set()

    def _start_timer(self) -> None:
        if self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self.receive_seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _time_out(self) -> None:
        self._receive_timer = None
        self._reject(408, "too_slow", f"the request did not arrive within {self.receive_seconds:g} seconds")

    def _reject(self, status: int, code: str, message: str) -> None:
        """Close the connection, with a response if the request that is arriving has none yet."""
        if self.transport.is_closing():
            return
        if self._is_response_pending() and not self.pipeline:
            self.cycle.keep_alive = False  # the request before this one gets its response, then the connection closes
            self.flow.pause_reading()
            return
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        has_no_response = is_open and not cycle.response_started if self._head_is_read else self._wire_bytes > 0
        if has_no_response and not self.pipeline:
            self.transport.write(_response(status, error_body(code, message)))
        if cycle is not None:  # the application must not write to a transport that is closed
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _response(status: int, body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
